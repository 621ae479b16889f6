"""Opening regular files only.

Rule 1: opening never blocks: a FIFO, a device, a socket or a folder is refused.
Rule 2: every failure is an InputError that names the file and gives the system's reason.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from ..errors import InputError, UnreadableError
from .descriptors import refusing_too_many
from .elsewhere import elsewhere

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
NOT_THERE = (FileNotFoundError, NotADirectoryError)


@contextmanager
def reading(label: str, path: Path | None = None) -> Iterator[None]:
    """Turn failures of the system inside the block into InputErrors about the file `label`.

    The error is an UnreadableError but where there is no such file; if there is none at `path`, it
    suggests the nearest name in that folder.
    """
    try:
        with refusing_too_many():
            yield
    except OSError as error:
        is_absent = path is not None and isinstance(error, FileNotFoundError)
        near = nearest_file(path) if path is not None and is_absent else None
        advice = f"did you mean {near}?" if near is not None else None
        what = f"cannot be read: {error.strerror or error}"
        # no file has a name that is too long, but a ledger may contain one as a hint
        is_there = not isinstance(error, NOT_THERE) and error.errno != errno.ENAMETOOLONG
        kind = UnreadableError if is_there else InputError
        raise kind(what, path=label, advice=advice) from None


def nearest_file(path: Path) -> Path | None:
    """The entry of the same folder with the most similar name; None if none is similar.

    Endings do not count, because many files share one.
    """
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return None
    names_by_stem = {Path(name).stem: name for name in names if name != path.name}
    near = get_close_matches(path.stem, names_by_stem, 1)
    return path.with_name(names_by_stem[near[0]]) if near else None


@contextmanager
def open_regular(path: Path, label: str | None = None) -> Iterator[tuple[int, os.stat_result]]:
    """Open a file for reading, and yield its descriptor and state.

    Messages call the file `label`, its path by default. Raises InputError if the file is
    unreadable or not regular.
    """
    label = label or str(path)
    if "\0" in str(path):
        raise InputError("cannot be read: its name holds a null character", path=label)
    if (remote := elsewhere(path)) is not None:
        what = "is not on this disk, where alone it can be used for this"
        raise InputError(what, path=remote.address, advice="download it, and name the copy")
    with reading(label, path):
        # checked before it is opened, because opening a device can have side effects
        _require_regular(os.stat(path), label)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            state = os.fstat(fd)
            _require_regular(state, label)
            yield fd, state
        finally:
            os.close(fd)


def _require_regular(state: os.stat_result, label: str) -> None:
    kind = stat.S_IFMT(state.st_mode)
    if kind != stat.S_IFREG:
        problem = f"is {KINDS.get(kind, 'special')}, not a regular file"
        # a path that a shell makes for <(...)
        advice = "- reads standard input" if kind == stat.S_IFIFO else None
        raise InputError(problem, path=label, advice=advice)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """The `size` bytes at `offset`; fewer at the end of the file."""
    parts = []
    while size:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


def read_into(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` with the bytes at `offset`; fewer at the end of the file. Returns how many."""
    filled = os.preadv(fd, [buffer], offset)
    while filled < len(buffer) and (part := os.preadv(fd, [buffer[filled:]], offset + filled)):
        filled += part
    return filled
