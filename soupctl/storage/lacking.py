"""Features that an output's file system lacks, found by trying, and the consequences.

Rule 1: files made for trying have hidden random names, and are removed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .allocate import can_reserve, has_modes
from .lock import can_lock
from .partial import NEW_FILE, open_unnamed
from .place import FOLDER
from .renameat import can_exchange, can_link, can_rename_new, random_name

UNNAMED = "no files without a name: a kill leaves a hidden .partial file"
SPACE = "no reservation of space: a disk that fills up is found while data is written"
MODES = "no permission bits: those of an output that is replaced are not kept"
LINKS = "no hard links and no rename to a free name: a kill may leave an empty file of the name"
EXCHANGE = "no exchange of names: a kill while a folder is replaced may leave the old one hidden"
LOCKS = "no locks on folders: a hidden file is locked instead"


def lacking(folder: Path) -> tuple[str, ...]:
    """The features that a folder's file system lacks, each with the consequence.

    Raises OSError if no file can be created there.
    """
    return tuple(_lacking(folder))


def _lacking(folder: Path) -> Iterator[str]:
    place = os.open(folder, FOLDER)
    try:
        unnamed = open_unnamed(place)
        if unnamed is None:
            yield UNNAMED
        else:
            os.close(unnamed)
        with _new_file(place) as (fd, name):
            if not can_reserve(fd):
                yield SPACE
            if not has_modes(fd):
                yield MODES
            if not (can_link(place, name) or can_rename_new(place, name)):
                yield LINKS
            if not can_exchange(place, name):
                yield EXCHANGE
        if not can_lock(place):
            yield LOCKS
    finally:
        os.close(place)


@contextmanager
def _new_file(place: int) -> Iterator[tuple[int, str]]:
    name = random_name()
    fd = os.open(name, NEW_FILE, 0o600, dir_fd=place)
    try:
        yield fd, name
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=place)
