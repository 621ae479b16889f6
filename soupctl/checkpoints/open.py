"""Finding and opening inputs: a file, a folder, or `-` for standard input."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from ..errors import Issue, MismatchError, UsageError
from ..storage.regular import reading
from .checkpoint import Checkpoint, open_checkpoint
from .layout import Component, ModelFiles, find_model
from .listing import OPTIONAL
from .remote.address import address_of
from .safetensors import spool_stream

# parts of file names that are not variants
NO_VARIANTS = ("", "safetensors", "index", "json")

STREAM = "-"
"""The text that stands for standard input or output; as a `Path` it is an ordinary file name."""


def find_input(
    path: str | Path, component: str | None = None, variant: str | None = None
) -> ModelFiles:
    """The weights files at `path`, not opened; for `-`, standard input.

    Raises UsageError for an invalid `variant`, or a `component` of something other than a folder,
    and the errors of `find_model`.
    """
    if variant is not None and (variant in NO_VARIANTS or re.search(r"[./\0]", variant)):
        raise UsageError(f"{variant!r} is not the name of a variant", advice="such as fp16")
    if path == STREAM:
        return ModelFiles("standard input", (Component("", "standard input", ()),))
    address = address_of(path)
    with reading(str(path)):
        is_folder = component is None or address is not None or Path(path).is_dir()
    if not is_folder:
        raise UsageError("is not a pipeline, so --component does not apply", path=path)
    # a path would lose parts of an address
    place = Path(path) if address is None else path
    return find_model(place, component=component, variant=variant)


def open_input(component: Component) -> Checkpoint:
    """Open and validate a component, or the stream on standard input."""
    if component.files:
        return open_checkpoint(component)
    return Checkpoint(component, (spool_stream(sys.stdin.fileno(), component.label),))


def with_same_components(models: Sequence[ModelFiles]) -> tuple[ModelFiles, ...]:
    """The models without optional components that only some have, such as a safety checker.

    Raises MismatchError unless all models have the other components of the first.
    """
    shared = set.intersection(*({each.name for each in model.components} for model in models))
    kept = tuple(_without_optional(model, shared) for model in models)
    first = kept[0]
    expected = [component.name for component in first.components]
    issues = [
        Issue(
            f"has {_listed(model)} where {first.label} has {_listed(first)}",
            model.label,
            advice="--component picks one of a pipeline's",
        )
        for model in kept[1:]
        if [component.name for component in model.components] != expected
    ]
    if issues:
        raise MismatchError.collected(issues)
    return kept


def _without_optional(model: ModelFiles, shared: AbstractSet[str]) -> ModelFiles:
    found = (each for each in model.components if each.name in shared or each.name not in OPTIONAL)
    return replace(model, components=tuple(found))


def _listed(model: ModelFiles) -> str:
    names = [component.name for component in model.components]
    return "one checkpoint" if names == [""] else f"components {', '.join(names)}"
