"""What an output's name, the shard size and the variant mean, and which make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save, save_shards

from soupctl import verbs
from soupctl.errors import UsageError
from soupctl.verbs import ComponentResult, Ingredient, Request

W = np.ones(4, np.float16)


def soup(*paths: str | Path, output: str | Path, **options: object) -> tuple[ComponentResult, ...]:
    return verbs.average(Request(list(map(Ingredient, paths)), output, **options))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a file and a folder."""
    monkeypatch.chdir(tmp_path)
    save(Path("a.st"), w=W)
    save(Path("m") / "model.safetensors", w=W)
    return tmp_path


def test_a_folder_is_not_made_a_file_because_the_inputs_are_files(here):
    with pytest.raises(
        UsageError, match="new/: names a folder, but single files are averaged into a file"
    ):
        soup("a.st", output="new/")
    soup("a.st", output="new/", shard_size=100)
    soup("m", output="other/")

    assert ["model.safetensors"] == list(files(Path("new"))) == list(files(Path("other")))


def test_a_path_is_never_a_stream(here, capfd):
    soup("a.st", output=Path("./-"))
    soup(Path("-"), output=Path("again.st"))

    assert "" == capfd.readouterr().out
    assert contents(Path("a.st")) == contents(Path("-")) == contents(Path("again.st"))


@pytest.mark.parametrize("size", [0, -5])
def test_a_shard_has_a_size(here, size):
    with pytest.raises(UsageError, match=f"a shard size must be positive, not {size}"):
        soup("m", output="soup", shard_size=size)
    assert not Path("soup").exists()


@pytest.mark.parametrize("name", ["model", "model.fp16x", "x.safetensors", "a-fp16"])
def test_only_a_whole_part_of_a_name_is_a_variant(here, name):
    Path("m/model.safetensors").rename(f"m/{name}.safetensors")
    for variant in ("s", "fp16", "model"):
        soup("m", output=f"soup-{variant}", variant=variant)

        assert [f"{name}.safetensors"] == list(files(Path(f"soup-{variant}")))


@pytest.mark.parametrize(
    ("shards", "index"),
    [
        ("model.fp16-0000{}-of-00002.safetensors", "model.safetensors.index.fp16.json"),
        ("model-0000{}-of-00002.fp16.safetensors", "model.safetensors.fp16.index.json"),
    ],
)
def test_shards_of_a_variant_become_plain(here, shards, index):
    save_shards(Path("s"), "model", {"a": W}, {"b": W})
    soup("s", output="expected")
    text = Path("s/model.safetensors.index.json").read_text()
    for number in (1, 2):
        plain = f"model-0000{number}-of-00002.safetensors"
        Path("s", plain).rename(Path("s", shards.format(number)))
        text = text.replace(plain, shards.format(number))
    Path("s/model.safetensors.index.json").unlink()
    Path("s", index).write_text(text)
    soup("s", output="soup", variant="fp16")

    assert set(files(Path("expected"))) == set(files(Path("soup")))


@pytest.mark.parametrize(
    "variant", ["", "safetensors", "index", "json", "a/b", "../m", "fp.16", "a\0b"]
)
def test_a_variant_that_no_file_can_have_is_refused(here, variant):
    for path in ("m", "a.st"):
        with pytest.raises(UsageError, match="is not the name of a variant"):
            soup(path, output="soup", variant=variant)


def test_shards_in_folders_of_their_own_stay_apart(here):
    for number, folder in enumerate("ab"):
        save(Path("s", folder, "x.safetensors"), **{folder: W + number})
    weight_map = {"a": "a/x.safetensors", "b": "b/x.safetensors"}
    index = Path("s/model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for force in (False, True):
        verbs.average(Request([Ingredient("s")], "soup"), force=force)

    assert {*weight_map.values(), index.name} == set(files(Path("soup")))
    assert weight_map == json.loads(Path("soup", index.name).read_text())["weight_map"]
    assert contents(Path("s/b/x.safetensors")) == contents(Path("soup/b/x.safetensors"))

    # an index may name another shard than the one that has a tensor
    index.write_text(json.dumps({"weight_map": dict(zip("ba", weight_map.values(), strict=True))}))
    soup("s", output="other")
    assert weight_map == json.loads(Path("other", index.name).read_text())["weight_map"]
