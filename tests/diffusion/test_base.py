"""Bases on disk, known by their configs before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from soupctl.diffusion.base_reader import read_base
from soupctl.errors import InputError


@pytest.mark.parametrize("name", ["model_index.json", "config.json"])
def test_the_model_of_a_run_is_a_base_and_its_folder_is_not(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "model" / name).write_text("{}")

    with pytest.raises(InputError, match=r"run: is not a diffusers folder \(use .*run/model\)"):
        read_base(run)


def test_a_folder_without_a_config_is_not_a_base(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it needs model_index\.json, or config\.json of a bare"):
        read_base(tmp_path)
