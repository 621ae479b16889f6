"""Checks of an output's destination before anything is computed."""

from __future__ import annotations

from pathlib import Path

from ..storage.files import require_room
from ..storage.lacking import lacking
from ..storage.place import Place, place_of, refusing
from .destination import Destination, refuse_input_as_output
from .job import Job
from .overwrite import may_replace_with


def require_free(job: Job, *, force: bool = False) -> None:
    """Raise the OutputError that `carry_out` would raise if the files stay as they are now.

    It is for an input as output, an existing output without `force`, a missing folder, or too
    little space.
    """
    destination = job.destination
    refuse_input_as_output(destination, job.used, job.replaceable)
    target = destination.path
    if target is None:
        return
    with refusing(target), place_of(target) as place:
        _require_replaceable(place, target, destination, force=force)
        companions = (path.stat().st_size for _, path in destination.companions.copies)
        require_room(target, job.size + sum(companions), folder=place.path.parent)


def require_free_place(destination: Destination, *, force: bool = False) -> None:
    """Raise OutputError for an output that `force` does not replace, or that has no folder."""
    target = destination.path
    if target is None:
        return
    with refusing(target), place_of(target) as place:
        _require_replaceable(place, target, destination, force=force)


def _require_replaceable(
    place: Place, target: Path, destination: Destination, *, force: bool
) -> None:
    """Raise OutputError for an existing file or folder, unless `force` replaces it."""
    if destination.is_folder:
        may_replace = may_replace_with(target, destination.names)
        place.require_free_folder(target, force, may_replace)
    else:
        place.require_free(target, force)


def file_system_lacks(job: Job) -> tuple[str, ...]:
    """The features that the output's file system lacks, with consequences; empty for stdout.

    Raises OutputError if nothing can be written there.
    """
    target = job.destination.path
    if target is None:
        return ()
    with refusing(target), place_of(target) as place:
        return lacking(place.path.parent)
