"""Reserving disk space for a file, and its permission bits, on whatever file system it lies.

Rule 1: space is reserved by fallocate(2) alone. Where a file system has no such call, the C library
would write a byte into every page, each a request to a server.
Rule 2: permission bits are set where the file system has any.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

NO_CALL = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
# exFAT, SMB and FUSE buckets have no permission bits
NO_MODES = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def allocate(fd: int, size: int) -> None:
    """Give the file `size` bytes, reserved if the file system can do that; raises OSError."""
    if not (size and _reserve(fd, size)):
        os.ftruncate(fd, size)


def _reserve(fd: int, size: int) -> bool:
    """Reserve space; False if the system or the file system cannot."""
    if _fallocate is None:
        return False
    while _fallocate(fd, 0, 0, size) != 0:
        code = ctypes.get_errno()
        if code in NO_CALL:
            return False
        # a signal may interrupt a large reservation; its handler has already run
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def can_reserve(fd: int) -> bool:
    """Whether space can be reserved for an open, empty file; it has a byte after that."""
    return _reserve(fd, 1)


def has_modes(fd: int) -> bool:
    """Whether the file system of an open file takes permission bits."""
    try:
        os.chmod(fd, 0o600)
    except OSError as error:
        if error.errno in NO_MODES:
            return False
        raise
    return True


def set_mode(file: int | Path, mode: int) -> None:
    """Set permission bits, if the file system has any; OSError for any other failure."""
    try:
        os.chmod(file, mode)
    except OSError as error:
        if error.errno not in NO_MODES:
            raise
