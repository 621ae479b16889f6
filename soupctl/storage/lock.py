"""A lock on a folder, held while an output there is checked and given its name.

Rule 1: a killed process holds no lock and leaves nothing behind, except on file systems that cannot
lock folders, such as NFS: there a hidden file is locked, which the next command removes.
Rule 2: several folders are locked in a fixed order, so that two commands never deadlock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import OutputError
from .place import FOLDER, refusing

LOCK_NAME = ".soupctl.lock"
LONGEST_WAIT = 300.0
"""Seconds; publishing an output takes as long as the disk takes to sync a folder."""
STEP = 0.02
# the file system does not support locks on this folder or file
UNSUPPORTED = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def locked(folders: Iterable[Path], longest: float | None = None) -> Iterator[None]:
    """Hold a lock on each of these folders, for which other soupctl commands wait.

    A file system without locks is not locked. Raises OutputError for a folder that another process
    locks for more than `longest` seconds, by default minutes.
    """
    found: dict[tuple[int, int], Path] = {}
    for folder in folders:
        with refusing(folder):
            state = folder.stat()
        found.setdefault((state.st_dev, state.st_ino), folder)
    with ExitStack() as stack:
        for _, folder in sorted(found.items()):
            stack.enter_context(_locked(folder, LONGEST_WAIT if longest is None else longest))
        yield


@contextmanager
def _locked(folder: Path, longest: float) -> Iterator[None]:
    with refusing(folder):
        fd = os.open(folder, FOLDER)
    try:
        if _wait(fd, folder, longest):
            yield
            return
    finally:
        os.close(fd)
    with _locked_file(folder, longest):
        yield


@contextmanager
def _locked_file(folder: Path, longest: float) -> Iterator[None]:
    """A lock on a file in the folder, which is removed before it is unlocked."""
    path = folder / LOCK_NAME
    with refusing(folder):
        fd = _open_lock(path, folder, longest)
    try:
        yield
    finally:
        # another process that has it open notices that it is gone
        with suppress(OSError):
            path.unlink()
        os.close(fd)


def _open_lock(path: Path, folder: Path, longest: float) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            is_locked = _wait(fd, folder, longest)
            state = os.fstat(fd)
            with suppress(FileNotFoundError):
                now = path.stat()
                if not is_locked or (now.st_dev, now.st_ino) == (state.st_dev, state.st_ino):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def can_lock(fd: int) -> bool:
    """Whether the file system of an open folder locks folders."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def _wait(fd: int, folder: Path, longest: float) -> bool:
    """Lock an open file or folder; False if its file system cannot lock."""
    end = time.monotonic() + longest
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                what = f"another process has locked this folder for {longest:.0f} seconds"
                raise OutputError(what, path=folder) from None
            time.sleep(STEP)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return False
            raise
        else:
            return True
