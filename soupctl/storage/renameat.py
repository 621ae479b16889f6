"""Two renames that POSIX lacks: onto a name that must be free, and exchanging two names.

Rule 1: on Linux each is one atomic step (renameat2). Where the system or the file system has no
such call, `rename_new` links and unlinks a file, which is as safe, or looks before it renames a
folder; `exchange` renames three times, and a kill in between leaves the old contents hidden.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat

NOREPLACE, EXCHANGE = 1, 2
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)


def random_name() -> str:
    """A hidden name of fixed length that nobody else uses."""
    return f".{secrets.token_hex(8)}.partial"


def rename_new(folder: int, old: str, new: str) -> None:
    """Rename within the folder open at `folder`; FileExistsError if there is a `new` already."""
    if not _rename2(folder, old, new, NOREPLACE):
        _rename_new_by_steps(folder, old, new)


def exchange(folder: int, one: str, other: str) -> None:
    """Let two entries of the open folder `folder` trade names; FileNotFoundError if one lacks."""
    if not _rename2(folder, one, other, EXCHANGE):
        _exchange_by_steps(folder, one, other)


def _rename2(folder: int, old: str, new: str, flag: int) -> bool:
    """Whether the system can do it and did; OSError if it can and failed."""
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
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(old, dir_fd=folder)
        return
    try:
        os.stat(new, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        # what comes into being from here on is not lost: only an empty folder can be renamed onto
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)


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
