"""Reading and writing small files, copying files, and checking for free disk space.

Rule 1: a file that gets shorter while it is read is an error, never a shorter copy.
Rule 2: disk space is checked before any work, and the error gives both sizes in bytes.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError, OutputError
from ..format.strict_json import decode, parse_object
from .regular import open_regular, read_at, reading

PIECE = 1 << 20
LARGEST_SMALL_FILE = 100_000_000
STANDARD_INPUT = "standard input"
"""Its name in messages."""


class NewFiles(Protocol):
    """Creates the files of an output, such as a folder that is being staged."""

    def create(self, name: str, size: int, /) -> int:
        """A descriptor of `size` preallocated bytes for the new file `name`."""

    def finish(self, fd: int, /) -> None:
        """Put the file on disk and close it."""


def read_file(
    path: Path, label: str | None = None, limit: int | None = LARGEST_SMALL_FILE
) -> bytes:
    """All bytes of a regular file of at most `limit` bytes; None is no limit.

    Messages call the file `label`, its path by default. Raises InputError if the file is
    unreadable, not regular or larger, OutputError if it gets shorter meanwhile.
    """
    label = label or str(path)
    with open_regular(path, label) as (fd, state):
        if limit is not None and state.st_size > limit:
            problem = f"has {state.st_size} bytes, and a file of its kind has at most {limit}"
            raise InputError(problem, path=label)
        return b"".join(pieces(fd, state.st_size, label))


def read_stream(limit: int) -> bytes:
    """All bytes of standard input; InputError if it is unreadable, or has more than `limit`."""
    with reading(STANDARD_INPUT):
        read = bytearray()
        while piece := os.read(sys.stdin.fileno(), PIECE):
            read += piece
            if len(read) > limit:
                raise InputError(f"has more than {limit} bytes", path=STANDARD_INPUT)
    return bytes(read)


def read_json(path: Path, kind: str = "JSON file") -> dict[str, Any]:
    """The JSON object in a file, parsed strictly (`format.strict_json`).

    Raises the errors of `read_file`, and InputError `is not a valid {kind}` for anything else than
    one object.
    """
    try:
        return parse_object(decode(read_file(path)))
    except ValueError as error:
        raise InputError(f"is not a valid {kind}: {error}", path=path) from None


def pieces(fd: int, size: int, label: str | Path) -> Iterator[bytes]:
    """The first `size` bytes of an open file, a mebibyte at a time.

    Raises OutputError if the file ends before that.
    """
    for offset in range(0, size, PIECE):
        piece = read_at(fd, min(PIECE, size - offset), offset)
        if len(piece) < min(PIECE, size - offset):
            raise OutputError("changed while it was read", path=label)
        yield piece


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, in as many system calls as it takes; OSError."""
    view = memoryview(data)
    if not view.nbytes:
        return
    view = view.cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def write_file(folder: NewFiles, name: str, data: bytes) -> None:
    """Add a file with the bytes `data` to an output; raises the errors of `folder.create`."""
    fd = folder.create(name, len(data))
    write_at(fd, data, 0)
    folder.finish(fd)


def copy_file(folder: NewFiles, name: str, source: Path) -> None:
    """Add a copy of the file `source` to an output, byte for byte.

    Raises InputError if the source is unreadable or not regular, OutputError if it gets shorter
    meanwhile, and the errors of `folder.create`.
    """
    with open_regular(source) as (fd, state):
        copy = folder.create(name, state.st_size)
        offset = 0
        for piece in pieces(fd, state.st_size, source):
            write_at(copy, piece, offset)
            offset += len(piece)
        folder.finish(copy)


def free_space(place: int | Path) -> int | None:
    """Free bytes on the disk of a path or descriptor; None if its file system does not report them.

    Raises OSError.
    """
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize if state.f_blocks else None


def require_room(
    target: Path,
    size: int,
    *,
    folder: Path | None = None,
    reusable: int = 0,
    needs: str = "needs",
    advice: str | None = None,
) -> None:
    """Raise OutputError about `target` unless its disk has `size` bytes free.

    `folder` lies on that disk, by default the target's parent. `reusable` bytes count as free: an
    earlier output that is replaced. `needs` begins the message. Raises OSError if the folder cannot
    be asked.
    """
    free = free_space(folder or target.parent)
    if free is not None and size > free + reusable:
        raise no_room(target, size, free, needs=needs, advice=advice)


def require_file_size(target: str | Path, size: int) -> None:
    """Raise OutputError for a file of more bytes than the process may write."""
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most != resource.RLIM_INFINITY and size > most:
        raise too_large(target, size)


def too_large(target: str | Path, size: int) -> OutputError:
    """The error for a file of `size` bytes where none may be so large."""
    problem = f"needs {size} bytes, more than a file may have here"
    return OutputError(problem, path=target, advice="see ulimit -f")


def no_room(
    target: str | Path, size: int, free: int, *, needs: str = "needs", advice: str | None = None
) -> OutputError:
    """The error for an output of `size` bytes on a disk with `free` bytes left."""
    problem = f"{needs} {size} bytes of disk space, and {free} are free"
    return OutputError(problem, path=target, advice=advice)
