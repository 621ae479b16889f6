"""Read-only memory maps that keep no file descriptor open.

Rule 1: once a mapping exists, the descriptor it was made from may be closed, so that thousands can
be open.
Rule 2: memory is unmapped when its last view is gone, never under a view that is in use.
Rule 3: a file that another process shortens kills the reader (SIGBUS), which cannot be prevented
here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

# CPython's mmap keeps a duplicate of the descriptor for as long as the mapping lives (trackfd=False
# comes with 3.13), so the two calls are made directly
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    # off_t, which has 64 bits on every 64-bit system
    ctypes.c_longlong,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

MAP_FAILED = ctypes.c_void_p(-1).value


class Mapping:
    """The first `size` bytes of an open regular file; OSError if the system cannot map them."""

    def __init__(self, fd: int, size: int) -> None:
        self._view: memoryview | None = _map(fd, size) if size else memoryview(b"")

    @property
    def view(self) -> memoryview:
        """All bytes, flat and read-only; ValueError after `close`."""
        if self._view is None:
            raise ValueError("the mapping is closed")
        return self._view

    def close(self) -> None:
        """Release the bytes; views that were returned stay valid."""
        self._view = None


def _map(fd: int, size: int) -> memoryview:
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address == MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    # every view, and every array made of one, keeps this owner alive
    owner = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(owner, _libc.munmap, address, size).atexit = False
    return memoryview(owner).cast("B").toreadonly()
