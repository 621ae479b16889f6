"""Sharded soups and pipelines are changed whole, with a ledger for each component."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save, save_pipeline, save_shards
from revising import average, revise

from soupctl import verbs
from soupctl.errors import LedgerError, MismatchError, OutputError
from soupctl.verbs import Addition, Level, Removal, Revision

F16 = np.float16


def tensors(folder: str) -> dict[str, object]:
    """All tensors below a folder by file and name."""
    return {
        f"{path.relative_to(folder)}/{name}": raw
        for path in sorted(Path(folder).rglob("*.safetensors"))
        for name, raw in contents(path).items()
    }


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    """Sharded checkpoints a to c in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save_shards(Path(name), "model", {"u": F16([number, 1])}, {"v": F16([number / 3])})
        (Path(name) / "config.json").write_text('{"hidden_size": 2}')


@pytest.fixture
def pipelines(tmp_path, monkeypatch):
    """Pipelines a to d, and a soup of the first three, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        save_pipeline(Path(name), ord(name))
    average(Path("soup"), "a", "b", ("c", 2))


def test_a_sharded_soup_is_changed_like_any_other(sharded):
    average(Path("soup"), "a", "b")
    average(Path("expected"), "a", "c")
    revise("swap", "soup", Path("out"), ["c"], ["b"])
    revise("swap", "soup", Path("out.st"), ["c"], ["b/model.safetensors.index.json"])

    assert tensors("expected") == tensors("out")
    assert set(files(Path("expected"))) == set(files(Path("out")))
    assert {"u", "v"} == set(contents(Path("out.st")))
    for soup in ("out", "out.st"):
        (found,) = verbs.verify(soup)
        assert (Level.REBUILD, None) == (found.level, found.problem)


def test_a_folder_is_changed_in_place_by_force_and_at_once(sharded):
    average(Path("soup"), "a", "b")
    before = os.stat("soup").st_ino
    revise("add", "soup", Path("other"), ["c"])
    with pytest.raises(OutputError):
        revise("add", "soup", Path("soup"), ["c"])
    revise("add", "soup", Path("soup"), ["c"], force=True)

    assert files(Path("other")) == files(Path("soup"))
    assert before != os.stat("soup").st_ino
    assert {"a", "b", "c", "soup", "other"} == set(os.listdir())


def test_a_folder_that_cannot_be_changed_stays(sharded):
    average(Path("soup"), "a", "b")
    shutil.rmtree("b")
    before = files(Path())
    with pytest.raises(LedgerError, match="b: is not found, and an exact soup needs it"):
        revise("add", "soup", Path("soup"), ["c"], force=True)
    save_shards(Path("b"), "model", {"u": F16([9, 9])}, {"v": F16([9])})
    with pytest.raises(LedgerError, match="b: has other content than the ledger records"):
        revise("add", "soup", Path("soup"), ["c"], force=True)
    shutil.rmtree("b")

    assert before == files(Path())


def test_a_sharded_ingredient_that_moved_is_found(sharded):
    average(Path("soup"), "a", "b")
    average(Path("expected"), "a", "c")
    Path("else").mkdir()
    Path("a").rename("else/renamed")
    revise("swap", "soup", Path("out"), ["c"], ["b"], search=(Path("else"),))

    assert tensors("expected") == tensors("out")


def test_every_component_of_a_pipeline_is_changed(pipelines):
    average(Path("expected"), "a", ("c", 2), "d")
    revise("subtract", "soup", Path("1"), (), ["b"])
    revise("add", "1", Path("2"), ["d"])
    revise("swap", "soup", Path("3"), ["d"], ["b"])

    for soup in ("2", "3"):
        assert tensors("expected") == tensors(soup)
        assert set(files(Path("expected"))) == set(files(Path(soup)))
        assert [Level.REBUILD] * 3 == [each.level for each in verbs.verify(soup)]
        for _, ledger in verbs.history(soup):
            assert {"a", "c", "d"} == {entry.name for entry in ledger.ingredients}


def test_an_ingredient_added_to_a_pipeline_is_removed_by_name(pipelines):
    revise("add", "soup", Path("1"), ["d"])
    shutil.rmtree("d")
    revise("subtract", "1", Path("2"), (), ["d"])

    assert tensors("soup") == tensors("2")


def test_a_pipeline_is_changed_in_place(pipelines):
    revise("subtract", "soup", Path("expected"), (), ["b"])
    revise("subtract", "soup", Path("soup"), (), ["b"], force=True)

    assert files(Path("expected")) == files(Path("soup"))
    revise("add", "soup", Path("soup"), ["b"], force=True)
    assert [Level.REBUILD] * 3 == [each.level for each in verbs.verify("soup")]


def test_one_component_with_a_wrong_ledger_stops_all(pipelines):
    path = next(Path("soup/vae").glob("*.safetensors"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    before = files(Path())
    for approximate in (False, True):
        with pytest.raises(LedgerError, match="soup/vae: its ledger does not match its tensors"):
            revise("subtract", "soup", Path("out"), (), ["b"], approximate=approximate)

    assert before == files(Path())
    levels = {each.name: each.level for each in verbs.verify("soup")}
    assert {"text_encoder": Level.REBUILD, "unet": Level.REBUILD, "vae": Level.HEADER} == levels


def test_a_component_is_changed_alone(pipelines):
    average(Path("expected"), "a/unet", ("c/unet", 2))
    revise("subtract", "soup", Path("unet"), (), ["b"], component="unet")

    assert tensors("expected") == tensors("unet")
    assert ["unet"] == [
        each.name or each.path for each in verbs.verify("unet") if each.level is Level.REBUILD
    ]
    with pytest.raises(MismatchError):
        revise("add", "soup", Path("out"), ["d/unet"])


def test_an_ingredient_of_a_pipeline_is_no_output(pipelines):
    before = files(Path())
    for output in ("a", "b", "d", "a/unet"):
        revision = Revision("swap", "soup", output, [Addition("d")], [Removal("b")])
        with pytest.raises(OutputError):
            verbs.revise(revision, force=True)

    assert before == files(Path())


def test_a_pipeline_without_a_ledger_has_a_total(pipelines):
    made = revise("add", "a", Path("out"), ["d"], total=3)

    assert {"a": 3, "d": 1} == {entry.name: entry.weight for entry in made.ledger.ingredients}
    assert [False] * 3 == [ledger.exact for _, ledger in verbs.history("out")]


def test_a_variant_is_found_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(Path(name, "model.safetensors"), w=np.float32([number]))
        save(Path(name, "model.fp16.safetensors"), w=F16([number]))
    average(Path("soup"), "a", "b", variant="fp16")
    average(Path("expected"), "a", "c", variant="fp16")
    revise("swap", "soup", Path("out"), ["c"], ["b"], variant="fp16")

    assert tensors("expected") == tensors("out")
    (found,) = verbs.verify("out", variant="fp16")
    assert (Level.REBUILD, None) == (found.level, found.problem)
