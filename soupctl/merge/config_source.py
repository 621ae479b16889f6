"""The input whose configs count where inputs have different ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..checkpoints.hub import snapshot_of
from ..checkpoints.layout import ModelFiles
from ..errors import UsageError


def config_source(named: str | Path | None, models: Sequence[ModelFiles]) -> Path | None:
    """The folder of the input that `named` says, as it was given or by another path; None for None.

    Raises UsageError for what is no input, and for an input that is a file.
    """
    if named is None:
        return None
    found = next((model for model in models if _is_named(named, model)), None)
    if found is None:
        labels = ", ".join(dict.fromkeys(model.label for model in models))
        raise UsageError("--config-from names no input", path=named, advice=f"one of {labels}")
    if found.folder is None:
        what = "is a file, which has no configs of its own"
        raise UsageError(what, path=named, advice="--config-from names a folder")
    return found.folder


def _is_named(named: str | Path, model: ModelFiles) -> bool:
    if str(named) == model.label:
        return True
    places = [place for place in (model.folder, Path(model.label)) if place is not None]
    meant = os.path.realpath(snapshot_of(Path(named)))
    return meant in {os.path.realpath(place) for place in places}
