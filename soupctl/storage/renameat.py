"""Two renames that POSIX lacks: to a name that must be free, and exchanging two names.

Rule 1: on Linux each is one atomic step (renameat2). Where the system or the file system has no
such call, `rename_new` links and unlinks a file, which is as safe, or checks before it renames a
folder; `exchange` renames three times, and a kill in between leaves the old contents hidden.
Rule 2: without hard links either, an empty file takes the name, and the file is renamed over it: no
other process's file is lost, and a kill in between leaves the empty one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

NOREPLACE, EXCHANGE = 1, 2
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)
"""Errors of file systems without hard links."""

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)


def random_name() -> str:
    """A hidden random name, of fixed length, for an unfinished output."""
    return f".{os.urandom(8).hex()}.partial"


def rename_new(folder: int, old: str, new: str) -> None:
    """Rename within the folder open at `folder`; FileExistsError if there is a `new` already."""
    if not _rename2(folder, old, new, NOREPLACE):
        _rename_new_by_steps(folder, old, new)


def exchange(folder: int, one: str, other: str) -> None:
    """Exchange the names of two entries of an open folder; FileNotFoundError if one is missing."""
    if not _rename2(folder, one, other, EXCHANGE):
        _exchange_by_steps(folder, one, other)


def can_link(folder: int, name: str) -> bool:
    """Whether a file of an open folder can have a second name."""
    other = random_name()
    try:
        os.link(name, other, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in NO_LINKS:
            return False
        raise
    os.unlink(other, dir_fd=folder)
    return True


def can_rename_new(folder: int, name: str) -> bool:
    """Whether a file of an open folder can be renamed to a free name in one step."""
    other = random_name()
    if not _rename2(folder, name, other, NOREPLACE):
        return False
    os.rename(other, name, src_dir_fd=folder, dst_dir_fd=folder)
    return True


def can_exchange(folder: int, name: str) -> bool:
    """Whether two entries of an open folder can exchange names in one step; tried on one entry."""
    return _rename2(folder, name, name, EXCHANGE)


def _rename2(folder: int, old: str, new: str, flag: int) -> bool:
    """Rename by renameat2; False if the system does not support it, OSError if it fails."""
    if _renameat2 is None:
        return False
    if _renameat2(folder, os.fsencode(old), folder, os.fsencode(new), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), new)


def _rename_new_by_steps(folder: int, old: str, new: str) -> None:
    if stat.S_ISREG(os.stat(old, dir_fd=folder, follow_symlinks=False).st_mode):
        try:
            os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _rename_over_empty(folder, old, new)
        else:
            os.unlink(old, dir_fd=folder)
        return
    try:
        os.stat(new, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        # nothing created after this check is lost: only an empty folder can be overwritten
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)


def _rename_over_empty(folder: int, old: str, new: str) -> None:
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder))
    try:
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(new, dir_fd=folder)
        raise


def _exchange_by_steps(folder: int, one: str, other: str) -> None:
    aside = random_name()
    done: list[tuple[str, str]] = []
    try:
        for old, new in ((other, aside), (one, other), (aside, one)):
            os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
            done.append((old, new))
    except BaseException:
        for old, new in reversed(done):
            os.rename(new, old, src_dir_fd=folder, dst_dir_fd=folder)
        raise
