"""Copies of bases with other configs, or laid out otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from diffusers import DiffusionPipeline


def edit(path: Path, drop: Sequence[str] = (), **changes: object) -> None:
    """Change fields of a config, and drop others."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: content[key] for key in content if key not in drop}))


def edited(
    base: Path, copy: Path, config: str, drop: Sequence[str] = (), **changes: object
) -> Path:
    """A copy of a base with one of its configs changed."""
    shutil.copytree(base, copy)
    edit(copy / config, drop, **changes)
    return copy


def laid_out_at_the_root(base: Path, copy: Path) -> Path:
    """A copy of a pipeline with its files in one folder, as the first ones were published."""
    copy.mkdir()
    for path in (base / "model_index.json", *base.glob("unet/*"), *base.glob("scheduler/*")):
        shutil.copy(path, copy)
    return copy


def loaded(folder: Path) -> DiffusionPipeline:
    """The pipeline in a folder, as diffusers loads it."""
    return DiffusionPipeline.from_pretrained(str(folder))
