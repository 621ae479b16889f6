"""A file of an output while it is written: it stays open, or is reopened for each write.

Rule 1: the system begins to write a window to disk when the next one begins, so that little is left
to wait for in the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from .descriptors import IN_TURN
from .files import write_at
from .writeback import WINDOW, begin_writeback


class Writable(Protocol):
    """Takes the bytes of one output, from several threads at once."""

    def write(self, data: bytes | memoryview, offset: int, /) -> None:
        """Write all of `data` at `offset`."""

    def sync(self) -> None:
        """Wait until what is written is safe."""


class WrittenFile:
    """Takes the bytes of one file, from several threads at once.

    It is open as `fd`, which its owner closes, or else opened at `path`.
    """

    def __init__(self, fd: int | None, path: Path | None = None) -> None:
        self._fd = fd
        self._path = path
        self._pending = 0
        """Bytes that were written since the system was asked to begin with them, about."""

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`; OSError."""
        if self._fd is None:
            with self._open() as fd:
                self._write(fd, data, offset)
        else:
            self._write(self._fd, data, offset)

    def _write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        write_at(fd, data, offset)
        # if another thread overwrites a count, a window only becomes longer
        self._pending += len(data)
        if self._pending >= WINDOW:
            self._pending = 0
            begin_writeback(fd)

    def sync(self) -> None:
        """Sync the data to disk; an OSError is final."""
        with self._open() as fd:
            os.fsync(fd)

    @contextmanager
    def _open(self) -> Iterator[int]:
        if self._fd is not None:
            yield self._fd
            return
        assert self._path is not None
        with IN_TURN:
            fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                yield fd
            finally:
                os.close(fd)
