"""Inputs as a user names them: a file, a folder or `-`, found and opened."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import Issue, MismatchError, UsageError
from .checkpoint import Checkpoint, open_checkpoint
from .layout import Component, ModelFiles, find_model
from .safetensors import spool_stream

# what stands in a file's name anyway
NO_VARIANTS = ("", "safetensors", "index", "json")

STREAM = "-"
"""The text that stands for standard input, or standard output; as a `Path` it is a file's name."""


def find_input(
    path: str | Path, component: str | None = None, variant: str | None = None
) -> ModelFiles:
    """The model at `path`, or the stream on standard input for `-`, found but not opened.

    Raises UsageError for a variant or component that no file has, and what `find_model` raises.
    """
    if variant is not None and (variant in NO_VARIANTS or re.search(r"[./\0]", variant)):
        raise UsageError(f"{variant!r} is not the name of a variant", advice="such as fp16")
    if path == STREAM:
        return ModelFiles("standard input", (Component("", "standard input", ()),))
    if component is not None and not Path(path).is_dir():
        raise UsageError("is not a pipeline, so --component does not apply", path=path)
    return find_model(Path(path), component=component, variant=variant)


def open_input(component: Component, *, mapped: bool = True) -> Checkpoint:
    """The component of a model or stream, opened and validated."""
    if component.files:
        return open_checkpoint(component, mapped=mapped)
    return Checkpoint(component, (spool_stream(sys.stdin.fileno(), component.label),))


def require_same_components(models: Sequence[ModelFiles]) -> None:
    """Raise MismatchError unless all models have the components of the first."""
    first = models[0]
    expected = [component.name for component in first.components]
    issues = [
        Issue(
            f"has {_listed(model)} where {first.label} has {_listed(first)}",
            model.label,
            advice="--component picks one of a pipeline's",
        )
        for model in models[1:]
        if [component.name for component in model.components] != expected
    ]
    if issues:
        raise MismatchError.collected(issues)


def _listed(model: ModelFiles) -> str:
    names = [component.name for component in model.components]
    return "one checkpoint" if names == [""] else f"components {', '.join(names)}"
