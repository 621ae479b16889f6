"""Sharded soups and pipelines have sums that change with them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from keeping import hide, save_pots, sum_of
from making import contents, files, save_pipeline, save_shards
from revising import assert_proven, average, revise

from soupctl import verbs
from soupctl.choices import Method
from soupctl.errors import LedgerError, OutputError

F16 = np.float16
SOUP = Path("soup.st")


@pytest.fixture
def pots(tmp_path, monkeypatch):
    """Checkpoints a to e of mixed dtypes and far exponents, in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_pots()


def tensors(folder: Path) -> dict[str, object]:
    """All tensors of a file, or below a folder by file and name."""
    paths = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else [folder]
    return {f"{path.name}/{name}": raw for path in paths for name, raw in contents(path).items()}


def test_an_unrelated_folder_named_like_the_sum_is_refused_and_survives(pots):
    average(Path("soup"), "a.st", "b.st", keep_sum=True, shard_size=500)
    place = sum_of(Path("soup"))
    shutil.rmtree("soup")
    (place / "notes").write_text("a user's own")
    before = files(Path())
    with pytest.raises(OutputError, match=r"\.sum: exists and is not a kept sum"):
        average(Path("soup"), "a.st", "b.st", keep_sum=True, shard_size=500)
    assert before == files(Path())
    shutil.rmtree(place)
    place.write_text("a user's own")
    with pytest.raises(OutputError):
        average(Path("soup"), "a.st", "b.st", keep_sum=True, shard_size=500)
    assert "a user's own" == place.read_text()
    assert not Path("soup").exists()


def test_shards_and_single_files_have_the_same_sum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save_shards(Path(name), "model", {"u": F16([number, 1])}, {"v": F16([number / 3])})
        (Path(name) / "config.json").write_text('{"hidden_size": 2}')
    average(Path("soup"), "a", "b", keep_sum=True)
    average(SOUP, "a", "b", keep_sum=True)
    average(Path("expected"), "b", "c")
    (inner,) = sum_of(Path("soup")).iterdir()

    assert contents(sum_of(SOUP)) == contents(inner)
    hide("b")
    for soup, out in (("soup", "out"), ("soup/", "again"), ("soup.st", "out.st")):
        made = revise("swap", soup, Path(out), ["c"], ["a"])
        assert Method.SUM is made.method
    assert tensors(Path("expected")) == tensors(Path("out")) == tensors(Path("again"))
    assert contents(sum_of(Path("out.st"))) == contents(sum_of(Path("out")) / inner.name)
    shutil.copytree("hidden", ".", dirs_exist_ok=True)
    assert_proven("soup", "soup.st", "out", "out.st")
    shutil.rmtree("b")
    revise("swap", "soup", Path("soup"), ["c"], ["a"], force=True)
    assert tensors(Path("expected")) == tensors(Path("soup"))
    assert {"a", "c", "hidden", "soup", sum_of(Path("soup")).name} <= set(os.listdir())


def test_from_the_sum_of_a_folder_comes_a_folder_that_a_library_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save_shards(Path(name), "model", {"u": F16([number, 1])}, {"v": F16([number / 3])})
    average(Path("soup"), "a", "b", "c", keep_sum=True)
    average(SOUP, "b", "c")
    revise("subtract", sum_of(Path("soup")), Path("out"), (), ["a"])

    assert ["model.safetensors"] == os.listdir("out")
    assert contents(SOUP) == contents(Path("out/model.safetensors"))
    assert_proven("out", sum_of(Path("soup")))


def test_a_soup_that_is_the_working_folder_has_its_sum_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pots()
    average(Path("soup"), "a.st", "b.st", keep_sum=True, shard_size=500)
    hide("b.st")
    (tmp_path / "soup" / "deeper").mkdir()
    for place, up in (("soup", ".."), ("soup/deeper", "../..")):
        monkeypatch.chdir(tmp_path / place)
        soup = "." if place == "soup" else ".."
        made = revise("subtract", soup, Path(up, "out.st"), (), [f"{up}/a.st"], force=True)

        assert Method.SUM is made.method


@pytest.fixture
def pipelines(tmp_path, monkeypatch):
    """Pipelines a to d, and a soup of the first three with its sum, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        save_pipeline(Path(name), ord(name))
    average(Path("soup"), "a", "b", ("c", 2), keep_sum=True)


def test_every_component_of_a_pipeline_has_its_sum_in_one_folder(pipelines):
    average(Path("expected"), "a", ("c", 2), "d", keep_sum=True)
    names = {"text_encoder.safetensors", "unet.safetensors", "vae.safetensors"}

    assert names == set(os.listdir(sum_of(Path("soup"))))
    assert_proven("soup")
    hide("a", "c")
    made = revise("swap", "soup", Path("out"), ["d"], ["b"])
    assert Method.SUM is made.method
    assert tensors(Path("expected")) == tensors(Path("out"))
    assert tensors(sum_of(Path("expected"))) == tensors(sum_of(Path("out")))
    revise("swap", "soup", Path("soup"), ["d"], ["b"], force=True)
    assert tensors(Path("expected")) == tensors(Path("soup"))
    assert names == set(os.listdir(sum_of(Path("soup"))))


def test_a_component_of_a_sum_that_is_missing_or_altered_is_found(pipelines):
    place = sum_of(Path("soup")) / "vae.safetensors"
    raw = bytearray(place.read_bytes())
    for damaged in (None, raw[:-1] + bytes([raw[-1] ^ 1])):
        place.unlink()
        if damaged:
            place.write_bytes(damaged)
        before = files(Path())
        with pytest.raises(LedgerError, match=r"vae\.safetensors"):
            revise("subtract", "soup", Path("soup"), (), ["a"], force=True)

        assert before == files(Path())
        proven = {each.name: each.reaches(None) for each in verbs.verify("soup")}
        assert {"text_encoder": True, "unet": True, "vae": False} == proven
        place.write_bytes(raw)
    assert_proven("soup")
