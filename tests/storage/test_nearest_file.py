"""A file name that is mistyped: the error suggests the nearest one in that folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from soupctl.errors import InputError
from soupctl.storage.regular import nearest_file, open_regular


def test_an_absent_file_suggests_the_nearest_name_in_its_folder(tmp_path):
    for name in ("cats.safetensors", "dogs.safetensors", "readme"):
        (tmp_path / name).touch()

    with pytest.raises(InputError) as refusal, open_regular(tmp_path / "cat.safetensors"):
        pass

    (issue,) = refusal.value.issues
    assert "cannot be read: No such file or directory" == issue.what
    assert f"did you mean {tmp_path / 'cats.safetensors'}?" == issue.advice


@pytest.mark.parametrize("name", ["q", "owls.safetensors", "none/cats.safetensors"])
def test_a_name_that_is_near_to_none_suggests_nothing(tmp_path, name):
    (tmp_path / "cats.safetensors").touch()

    assert nearest_file(tmp_path / name) is None


def test_a_relative_name_is_suggested_as_it_would_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cats.safetensors").touch()

    assert Path("cats.safetensors") == nearest_file(Path("catz.safetensors"))
