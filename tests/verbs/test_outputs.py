"""What an output's name, the shard size and the variant mean, and which make no sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save

from soupctl import verbs
from soupctl.errors import UsageError
from soupctl.verbs import Ingredient, Made, Request

W = np.ones(4, np.float16)


def soup(*paths: str | Path, output: str | Path, **options: object) -> tuple[Made, ...]:
    return verbs.average(Request(list(map(Ingredient, paths)), output, **options))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a file and a folder."""
    monkeypatch.chdir(tmp_path)
    save(Path("a.st"), w=W)
    save(Path("m") / "model.safetensors", w=W)
    return tmp_path


def test_a_folder_is_not_made_a_file_because_the_inputs_are_files(here):
    with pytest.raises(UsageError, match="new/: names a folder, and files make a file"):
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
    with pytest.raises(UsageError, match=f"{size} bytes is no size of a shard"):
        soup("m", output="soup", shard_size=size)
    assert not Path("soup").exists()
