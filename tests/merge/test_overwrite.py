"""With force a soup is replaced, and nothing else is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save, save_pipeline, save_shards

from soupctl import verbs
from soupctl.errors import OutputError
from soupctl.verbs import Ingredient, Request

W = np.ones(4, np.float16)


def soup(*paths: Path, output: Path, **options: object) -> None:
    verbs.average(Request(list(map(Ingredient, paths)), output, **options), force=True)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "a"
    save(folder / "model.safetensors", w=W)
    (folder / "config.json").write_text("{}")
    return folder


def put(name: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("precious")

    return write


FOREIGN = {
    "notes.txt": put("notes.txt"),
    ".git": put(".git/config"),
    ".hidden": put(".hidden"),
    "sub": lambda folder: (folder / "sub").mkdir(),
    "fifo": lambda folder: os.mkfifo(folder / "fifo"),
    "link": lambda folder: (folder / "link").symlink_to("config.json"),
    "nowhere": lambda folder: (folder / "nowhere").symlink_to("none"),
    "other.safetensors": lambda folder: save(folder / "other.safetensors", w=W),
    "weights.bin": put("weights.bin"),
}


@pytest.mark.parametrize(("name", "make"), FOREIGN.items(), ids=FOREIGN)
def test_a_soup_with_anything_else_in_its_folder_is_not_replaced(model, tmp_path, name, make):
    soup(model, output=tmp_path / "soup")
    make(tmp_path / "soup")
    before = files(tmp_path)

    what = f"soup: holds {name}, which the new output does not have"
    with pytest.raises(OutputError, match=what):
        soup(model, output=tmp_path / "soup")
    assert before == files(tmp_path)
    assert os.path.lexists(tmp_path / "soup" / name)


def test_a_folder_is_no_soup_because_one_file_in_it_is(model, tmp_path):
    (tmp_path / "results").mkdir()
    soup(model, output=tmp_path / "results" / "soup.st")

    with pytest.raises(OutputError, match=r"results: holds soup\.st, which the new output"):
        soup(model, output=tmp_path / "results")
    assert ["soup.st"] == list(files(tmp_path / "results"))


def test_a_file_that_was_replaced_by_a_link_is_not_lost(model, tmp_path):
    soup(model, output=tmp_path / "soup")
    (tmp_path / "soup" / "config.json").unlink()
    (tmp_path / "soup" / "config.json").symlink_to("../a/config.json")

    with pytest.raises(OutputError, match=r"holds config\.json"):
        soup(model, output=tmp_path / "soup")


def test_a_soup_is_replaced_by_one_of_the_same_names(model, tmp_path):
    soup(model, output=tmp_path / "soup")
    save(model / "model.safetensors", w=W + 1)
    soup(model, output=tmp_path / "soup")

    assert contents(model / "model.safetensors") == contents(tmp_path / "soup/model.safetensors")
    assert {"config.json", "model.safetensors"} == set(files(tmp_path / "soup"))


def test_the_configs_of_an_old_soup_go_with_it(model, tmp_path):
    (model / "generation_config.json").write_text("{}")
    soup(model, output=tmp_path / "soup")
    (model / "generation_config.json").unlink()
    soup(model, output=tmp_path / "soup")

    assert {"config.json", "model.safetensors"} == set(files(tmp_path / "soup"))


def test_a_soup_is_replaced_by_one_of_other_shards(tmp_path):
    model = save_shards(tmp_path / "m", "model", {"a": W}, {"b": W, "c": W})
    for size, expected in ((8, 4), (16, 3), (None, 3), (24, 1)):
        soup(model, output=tmp_path / "soup", shard_size=size)
        assert expected == len(files(tmp_path / "soup"))


def test_a_pipeline_is_replaced_by_one_that_has_all_its_components(tmp_path):
    pipeline = save_pipeline(tmp_path / "p", 0)
    soup(pipeline, output=tmp_path / "soup")
    soup(pipeline, output=tmp_path / "soup")

    before = files(tmp_path / "soup")
    with pytest.raises(OutputError, match=r"holds model_index\.json, which the new"):
        soup(pipeline, output=tmp_path / "soup", component="unet")
    assert before == files(tmp_path / "soup")
