"""Checks of an output's destination before anything is computed."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from stat import S_ISDIR

from ..checkpoints.displacing import displaces
from ..errors import OutputError
from ..storage.elsewhere import elsewhere
from ..storage.files import require_file_size, require_room
from ..storage.lacking import lacking
from ..storage.place import Place, place_of, refusing
from .destination import Destination
from .ingredients import Inputs
from .job import Job
from .kept_sum.survey import least_sum_size
from .overwrite import may_replace_with


def require_free(job: Job, *, force: bool = False) -> None:
    """Raise the OutputError that `carry_out` would raise if the files stay as they are now.

    It is for an input as output, an existing output without `force`, a missing folder, too little
    space, or files that are larger than the process may write. How large a kept sum is shows only
    when it is made; its smallest size is counted.
    """
    destination = job.destination
    refuse_input_as_output(destination, job.used, job.replaceable)
    target = destination.path
    if target is None:
        # imported late, because most commands write no stream
        import tempfile

        folder = Path(tempfile.gettempdir())
        require_file_size(folder, job.size)
        require_room(folder, job.size, folder=folder)
        return
    if destination.address is not None:
        require_free_place(destination, force=force)
        return
    with refusing(target), place_of(target) as place:
        _require_replaceable(place, target, destination, force=force)
        _require_file_sizes(job, target)
        companions = (path.stat().st_size for _, path in destination.companions.copies)
        size = job.size + sum(companions)
        require_room(target, size, folder=place.path.parent)
        if job.keeps_sum:
            size += least_sum_size([each.plan for each in job.components])
            needs = "needs, with its sum, at least"
            require_room(target, size, folder=place.path.parent, needs=needs)


def _require_file_sizes(job: Job, target: Path) -> None:
    """Raise OutputError for a weights file that is larger than the process may write."""
    for component in job.components:
        for file, header in zip(component.files.files, component.headers, strict=True):
            size = header + (file.tensors[-1].stop if file.tensors else 0)
            path = (
                target / component.files.path_of(file.name) if job.destination.is_folder else target
            )
            require_file_size(path, size)


def require_free_place(destination: Destination, *, force: bool = False) -> None:
    """Raise OutputError for an output that `force` does not replace, or that has no folder."""
    target = destination.path
    if target is None:
        return
    if destination.address is not None:
        from ..checkpoints.remote.targets import require_free_object

        require_free_object(destination.address, replace=force)
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
    target = job.destination.file
    if target is None:
        return ()
    with refusing(target), place_of(target) as place:
        return lacking(place.path.parent)


def refuse_input_as_output(
    destination: Destination, inputs: Inputs, replaceable: Collection[Path] = ()
) -> None:
    """Raise OutputError if the output is an input, holds one, or would be read instead of one.

    Files among `replaceable` may be replaced, though not by what a shell redirects into them.
    """
    if destination.address is not None:
        if destination.address.shown in map(_address_of, _input_paths(inputs, ())):
            shown = destination.address.shown
            raise OutputError("is also an input", path=shown, advice="choose another output")
        return
    if destination.path is None:
        found, replaceable = _stat_of_standard_output(), ()
    else:
        found = _stat(destination.path)
    used = {
        (stat.st_dev, stat.st_ino)
        for stat in map(_stat, _input_paths(inputs, replaceable))
        if stat is not None
    }
    if found is not None and (found.st_dev, found.st_ino) in used:
        what = "holds an input" if S_ISDIR(found.st_mode) else "is also an input"
        path = "standard output" if destination.path is None else destination.path
        raise OutputError(what, path=path, advice="choose another output")
    if destination.path is not None and not destination.is_folder:
        _refuse_displacing(destination.path, inputs, replaceable)


def _refuse_displacing(target: Path, inputs: Inputs, replaceable: Collection[Path]) -> None:
    """Raise OutputError for a file that would be taken for weights of an input in its folder."""
    final = Path(os.path.realpath(target))
    if any(_is_same(final, each) for each in replaceable):
        return
    for checkpoint in (each for component in inputs.components for each in component.opened):
        found = checkpoint.component
        if found.folder is None or not _is_same(final.parent, found.folder):
            continue
        if displaces(final.name, found):
            what = "would be taken for the weights of its folder, which is an input"
            raise OutputError(what, path=target, advice="choose another output")


def _is_same(one: Path, other: Path) -> bool:
    first, second = _stat(one), _stat(other)
    return first is not None and second is not None and os.path.samestat(first, second)


def _input_paths(inputs: Inputs, replaceable: Collection[Path]) -> set[Path]:
    """Every file that is read, and every folder around one."""
    places = {
        place
        for component in inputs.components
        for checkpoint in component.opened
        for file in checkpoint.component.files
        if file not in replaceable
        for place in (file.absolute(), file.resolve())
    }
    return places | {parent for place in places for parent in place.parents}


def _stat_of_standard_output() -> os.stat_result | None:
    try:
        return os.fstat(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        # a Python caller may have closed stdout or replaced it
        return None


def _address_of(path: Path) -> str | None:
    file = elsewhere(path)
    return None if file is None else file.address


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
