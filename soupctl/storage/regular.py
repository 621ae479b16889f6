"""Regular files, opened so that nothing else can be.

Rule 1: opening never waits: a FIFO, a device, a socket or a folder is refused, whatever its name.
Rule 2: every failure is an InputError that names the file and gives the system's reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@contextmanager
def reading(shown: str) -> Iterator[None]:
    """Turn failures of the system inside the block into InputErrors about the file `shown`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=shown) from None


@contextmanager
def open_regular(path: Path, shown: str | None = None) -> Iterator[tuple[int, os.stat_result]]:
    """Open a file for reading, and yield its descriptor and state.

    Messages call the file `shown`, its path by default. Raises InputError if the file is
    unreadable or not regular.
    """
    shown = shown or str(path)
    if "\0" in str(path):
        raise InputError("cannot be read: its name holds a null character", path=shown)
    with reading(shown):
        # looked at before it is opened, because opening a device can act on it
        _require_regular(os.stat(path), shown)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            state = os.fstat(fd)
            _require_regular(state, shown)
            yield fd, state
        finally:
            os.close(fd)


def _require_regular(state: os.stat_result, shown: str) -> None:
    kind = stat.S_IFMT(state.st_mode)
    if kind != stat.S_IFREG:
        problem = f"is {KINDS.get(kind, 'special')}, not a regular file"
        # what a shell makes of <(...)
        advice = "- reads standard input" if kind == stat.S_IFIFO else None
        raise InputError(problem, path=shown, advice=advice)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """The `size` bytes at `offset`, or what there is of them."""
    parts = []
    while size:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)
