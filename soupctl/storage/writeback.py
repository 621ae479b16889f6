"""Early write-back: the system begins to write a large file while the rest of it is made.

Rule 1: nothing is waited for, and what fails on the way to the disk stays for the sync to report:
to wait here would take that report away from it. The sync alone says that data is on disk.
Rule 2: a failure to begin is an error, except where there is no such call.
"""

from __future__ import annotations

import ctypes
import errno
import os

WINDOW = 32 << 20
"""Bytes that are written before the system is asked to begin with them."""

NO_CALL = (errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EOPNOTSUPP, errno.ENOTSUP)
BEGIN = 2
"""SYNC_FILE_RANGE_WRITE of Linux."""

_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = getattr(_libc, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin_writeback(fd: int) -> None:
    """Let the system begin to write to disk what is written to an open file; OSError."""
    # offset 0 and length 0 mean the whole file; pages that are already being written are skipped
    if _sync_file_range is None or _sync_file_range(fd, 0, 0, BEGIN) == 0:
        return
    code = ctypes.get_errno()
    if code not in NO_CALL:
        raise OSError(code, os.strerror(code))
