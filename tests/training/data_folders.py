"""Folders of small images to scan, and what is said of one that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from soupctl.errors import InputError

Conditioning = pytest.importorskip("soupctl.diffusion.base").Conditioning
dataset = pytest.importorskip("soupctl.training.dataset")

TEXT, LABEL, NONE = Conditioning.TEXT, Conditioning.LABEL, Conditioning.NONE


def images(folder: Path, *names: str) -> Path:
    """The folder, with an image of each name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def refusal(folder: Path, kind: Conditioning) -> str:
    """The message with which a folder is refused."""
    with pytest.raises(InputError) as refused:
        dataset.scan_dataset(folder, kind)
    return refused.value.message()
