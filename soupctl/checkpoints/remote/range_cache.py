"""A folder with ranges of files on servers, which the user asked for and bounded.

Rule 1: a range counts only if its digest is that of its file, its place in it and its bytes; any
other is removed, and read from the server again.
Rule 2: room is taken in a count that processes share, before a byte is written; so together they
stay below the bound, also if one of them is killed.
Rule 3: ranges that were used least recently make room, but none that this process has used: files
larger than the bound would push out all that the next command can use.
Rule 4: only what has the name of a range is ever removed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from threading import Lock

from blake3 import blake3

from ...errors import LimitError, OutputError
from ...pattern import pattern
from ...storage.cache import user_cache
from ...storage.lock import locked
from ...storage.place import refusing
from ...storage.sizes import parse_size
from .blocks import Span

VARIABLE = "SOUPCTL_CACHE"
"""The environment variable with the bound of the cache, after its folder if that is chosen."""
OWN, FOLDER = "soupctl", "servers"
"""The folder in a chosen one, and the one in that or in the user's cache."""
FILE = pattern(r"[0-9a-f]{64}")
RANGE = pattern(r"([0-9]{1,18})-([0-9]{1,18})")
TOTAL = "total"
"""The file with the bytes that all ranges take on disk, or more after a process was killed."""
PARTIAL = "partial"
"""The one range that is being written, by the process that has the lock."""
DIGEST = 32
BLOCK = 4096
"""Bytes that a file system gives to files at a time."""
LONGEST_WAIT = 0.5
"""Seconds that it is worth to wait for the lock."""
PAUSE = 60.0
"""Seconds until a lock that was waited for in vain is asked for again."""
SLACK = 16
"""One part in so many of the bound is freed besides what is needed, so that it is rare."""


def chosen_cache() -> RangeCache | None:
    """The cache that the environment asks for; None without.

    Raises UsageError for a bound that is none, OutputError for a folder that cannot be written.
    """
    text = os.environ.get(VARIABLE)
    return _opened(text) if text else None


@cache
def _opened(text: str) -> RangeCache:
    chosen, _, size = text.rpartition(":")
    most = parse_size(size, VARIABLE)
    assert most is not None
    folder = Path(chosen, OWN) if chosen else user_cache()
    if folder is None:
        what = f"{VARIABLE} names no folder, and there is no home folder"
        raise LimitError(what, advice=f"{VARIABLE}=/DIR:{size}")
    return RangeCache(folder / FOLDER, most)


class RangeCache:
    """Ranges of files, by digests that name these files and their version."""

    def __init__(self, folder: Path, most: int) -> None:
        """`most` bounds the bytes on disk.

        Raises OutputError if the folder cannot be written, or other users may write to it.
        """
        self._folder = folder
        self._most = most
        self._begun = time.time_ns()
        self._lock = Lock()
        self._again = 0.0
        """When the lock is asked for again."""
        self._is_full = False
        """Whether all that is there was used by this process."""
        with refusing(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = folder.stat()
        if state.st_uid != os.geteuid() or state.st_mode & 0o022:
            what = "may be written to by other users, who could choose what is read"
            raise OutputError(what, path=folder, advice="chmod 700, or choose another folder")
        with ExitStack() as stack:
            try:
                stack.enter_context(locked([folder], longest=LONGEST_WAIT))
            except OutputError:
                # another process, which may be stopped, has it
                return
            stack.enter_context(refusing(folder))
            total = self._total()
            if total is None or total > most:
                self._make_room(0)

    def spans(self, file: str) -> list[Span]:
        """The ranges of a file that are there."""
        try:
            names = os.listdir(self._folder / file)
        except OSError:
            return []
        found = filter(None, map(RANGE.fullmatch, names))
        return [(int(each[1]), int(each[2])) for each in found]

    @property
    def is_full(self) -> bool:
        """Whether no more is kept."""
        return self._is_full

    def get(self, file: str, span: Span) -> bytes | None:
        """The bytes of a range; None if it is gone, or damaged and therefore removed."""
        path = self._path(file, span)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(fd, "rb") as opened, suppress(OSError):
            state, size = os.fstat(fd), span[1] - span[0]
            if stat.S_ISREG(state.st_mode) and state.st_size == size + DIGEST:
                data, digest = opened.read(size), opened.read()
                if digest == _digest(file, span, data):
                    os.utime(fd)
                    return data
        with suppress(OSError):
            path.unlink()
        return None

    def put(self, file: str, span: Span, data: bytes | bytearray) -> bool:
        """Whether a range is kept: there is room for it, and the folder can be written."""
        size = _on_disk(len(data) + DIGEST)
        if self._is_full or size > self._most or time.monotonic() < self._again:
            return False
        try:
            with self._lock, locked([self._folder], longest=LONGEST_WAIT):
                if not self._take(size):
                    return False
                self._write(self._path(file, span), data, _digest(file, span, data))
        except OutputError:
            # another process has the lock, and may be stopped
            self._again = time.monotonic() + PAUSE
            return False
        except OSError:
            # such as a full disk: no command needs a cache
            return False
        return True

    def _path(self, file: str, span: Span) -> Path:
        return self._folder / file / f"{span[0]}-{span[1]}"

    def _write(self, path: Path, data: bytes | bytearray, digest: bytes) -> None:
        partial = self._folder / PARTIAL
        partial.unlink(missing_ok=True)
        with partial.open("xb") as opened:
            opened.write(data)
            opened.write(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial.replace(path)

    def _take(self, size: int) -> bool:
        """Whether there is room for a range, which is counted from then on."""
        total = self._total()
        if total is None or total + size > self._most:
            total = self._make_room(size)
            self._is_full = total + size > self._most
        if not self._is_full:
            self._count(total + size)
        return not self._is_full

    def _total(self) -> int | None:
        """The bytes that ranges take; None if that is not known."""
        try:
            text = (self._folder / TOTAL).read_bytes()
        except OSError:
            return None
        return int(text) if text.isdigit() and len(text) == len(_counted(0)) else None

    def _count(self, total: int) -> None:
        fd = os.open(self._folder / TOTAL, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, _counted(total), 0)
        finally:
            os.close(fd)

    def _make_room(self, size: int) -> int:
        """Remove ranges, if they and `size` more exceed the bound; the bytes that are left."""
        (self._folder / PARTIAL).unlink(missing_ok=True)
        every = sorted(self._ranges())
        total = sum(each for _, each, _ in every)
        if total + size > self._most:
            goal = self._most - size - self._most // SLACK
            for used, each, path in every:
                if total <= goal or used >= self._begun:
                    break
                path.unlink(missing_ok=True)
                total -= each
        self._count(total)
        return total

    def _ranges(self) -> Iterator[tuple[int, int, Path]]:
        """The last use of each range, its bytes on disk, and its path; removes empty folders."""
        for folder in self._folder.iterdir():
            if not FILE.fullmatch(folder.name):
                continue
            with suppress(OSError):
                # fails unless it is empty
                folder.rmdir()
            with suppress(OSError):
                for path in folder.iterdir():
                    if RANGE.fullmatch(path.name):
                        state = path.lstat()
                        # a clock that was put back must not keep a range for ever
                        is_past = state.st_mtime_ns <= time.time_ns()
                        used = state.st_mtime_ns if is_past else 0
                        yield used, _on_disk(state.st_size), path


def _counted(total: int) -> bytes:
    """A count as it is written: always of one length, so that it is replaced as a whole."""
    return b"%020d" % total


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _digest(file: str, span: Span, data: bytes | bytearray) -> bytes:
    """The digest of a range with its place, so that none passes for another."""
    hasher = blake3(f"{file} {span[0]} {span[1]}\n".encode())
    hasher.update(data)
    return hasher.digest()
