"""Folders in the user's cache that are made once of the user's files, and removed when unused.

Rule 1: one process makes a folder; the others wait for it, however long that takes, because a lock
ends with the process that holds it.
Rule 2: a folder is never removed while a process uses it, which locks it until the process ends. Of
the others, those that were used last are kept.
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from .lock import locked
from .place import refusing

USED = ".used"
"""The file in each folder that is locked by its users; its time is that of the last use."""
PARTIAL = ".partial"

_in_use: dict[Path, int] = {}
"""Descriptors of the files that this process locks, until it ends."""


def cached_folder(folder: Path, name: str, make: Callable[[Path], None], most: int) -> Path:
    """The place `name` inside a folder of the cache, made by `make` unless it is there.

    `make` is given a path in the same folder, which is renamed when it is complete. Folders beside
    this one that nobody uses are removed, the oldest first, until at most `most` are left. Raises
    OutputError if the cache cannot be written, and the errors of `make`.
    """
    place = folder / name
    with refusing(folder):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked([folder.parent]), refusing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        _use(folder)
        _remove_unused(folder, most)
    with locked([folder], longest=math.inf):
        if not place.exists():
            _make(folder / PARTIAL, place, make)
    return place


def _make(partial: Path, place: Path, make: Callable[[Path], None]) -> None:
    """Make a place by way of a folder that is removed, also if making it fails."""
    with refusing(partial):
        # what a killed process has left
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
    try:
        made = partial / place.name
        make(made)
        with refusing(place):
            place.parent.mkdir(mode=0o700, exist_ok=True)
            made.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _use(folder: Path) -> None:
    """Lock a folder against removal until this process ends, and note the time."""
    if folder not in _in_use or not (folder / USED).exists():
        fd = os.open(folder / USED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        _lock(fd, fcntl.LOCK_SH)
        _in_use[folder] = fd
    os.utime(folder / USED)


def _lock(fd: int, kind: int) -> bool:
    """Whether an open file could be locked at once; never on a file system without locks."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_unused(folder: Path, most: int) -> None:
    """Remove folders beside one, the oldest first, until at most `most` are left."""
    others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    for other in sorted(others, key=_last_use)[: max(len(others) + 1 - most, 0)]:
        fd = os.open(other / USED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if _lock(fd, fcntl.LOCK_EX):
                shutil.rmtree(other, ignore_errors=True)
        finally:
            os.close(fd)


def _last_use(folder: Path) -> int:
    used = folder / USED
    return (used if used.exists() else folder).stat().st_mtime_ns
