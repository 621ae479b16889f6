"""Reading parts of regular files into memory of the caller.

Rule 1: files are read by system calls, so that a failing disk, or a file that another process
shortens, is an error; with a memory map, a signal would end the process.
Rule 2: few descriptors stay open between reads, however many files there are; the other files are
reopened for each read, and must be the same and unchanged.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import NamedTuple, Self

from ..errors import OutputError
from .descriptors import IN_TURN, may_stay_open
from .regular import read_into, reading

MOST_KEPT = 32
KEPT = BoundedSemaphore(MOST_KEPT)
"""Descriptors that stay open between reads, of all readers together."""


class FileIdentity(NamedTuple):
    """Identifies a file and its version: equal if the file was not replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, state: os.stat_result) -> Self:
        """The identity of the file with that state."""
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)

    def is_at(self, path: Path) -> bool:
        """Whether the path still leads to this file, unchanged."""
        try:
            return FileIdentity.of(path.stat()) == self
        except OSError:
            return False


class FileReader:
    """Reads parts of the file at a path, from several threads at once, until it is closed."""

    def __init__(self, path: Path, label: str, identity: FileIdentity) -> None:
        self._path = path
        self._label = label
        """The name of the file in messages."""
        self.identity = identity
        self._lock = Lock()
        self._fd: int | None = None
        self._release: Callable[[], object] | None = None
        self._is_closed = False

    @classmethod
    def of_open(cls, fd: int, path: Path, label: str) -> Self:
        """A reader of the file that is open as `fd`, which the caller closes."""
        reader = cls(path, label, FileIdentity.of(os.fstat(fd)))
        again = os.dup(fd)
        if not reader._keep(again):
            os.close(again)
        return reader

    @classmethod
    def of_unnamed(cls, fd: int, label: str) -> Self:
        """A reader of an open file that no path leads to; it closes `fd`."""
        reader = cls(Path(label), label, FileIdentity.of(os.fstat(fd)))
        reader._fd = fd
        reader._release = weakref.finalize(reader, os.close, fd)
        return reader

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the bytes at `offset`.

        Raises InputError if the file cannot be read, OutputError if it is now shorter or another
        file, ValueError after `close`.
        """
        fd = self._fd
        if fd is not None:
            self._fill(fd, buffer, offset)
            return
        with IN_TURN:
            fd = self._open()
            try:
                self._fill(fd, buffer, offset)
            finally:
                if not self._keep(fd):
                    os.close(fd)

    def _fill(self, fd: int, buffer: memoryview, offset: int) -> None:
        try:
            filled = read_into(fd, buffer, offset)
        except OSError:
            # no context manager until here, to save time for many small tensors
            with reading(self._label):
                raise
        if filled < len(buffer):
            raise self._changed()

    def _open(self) -> int:
        if self._is_closed:
            raise ValueError("the file is closed")
        with reading(self._label):
            # a FIFO that has replaced the file must not make this call wait
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        if FileIdentity.of(os.fstat(fd)) != self.identity:
            os.close(fd)
            raise self._changed()
        return fd

    def _keep(self, fd: int) -> bool:
        """Whether the descriptor may stay open; it then does until `close`."""
        with self._lock:
            if self._fd is not None or not may_stay_open(fd) or not KEPT.acquire(blocking=False):
                return False
            self._fd = fd
            self._release = weakref.finalize(self, _close_kept, fd)
            return True

    def _changed(self) -> OutputError:
        return OutputError("changed while it was read", path=self._label)

    def close(self) -> None:
        """Close the file; no read may be in progress."""
        self._is_closed = True
        self._fd = None
        if self._release is not None:
            self._release()


def _close_kept(fd: int) -> None:
    os.close(fd)
    KEPT.release()
