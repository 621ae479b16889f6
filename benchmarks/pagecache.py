"""The page cache, made warm or cold on purpose, and looked at rather than assumed.

Rule 1: only the files named are evicted, so that the interpreter's own files stay where they are.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

READ_BYTES = 1 << 22


def warm(paths: Sequence[Path]) -> None:
    """Read the files, so that they lie in the page cache as far as it has room."""
    buffer = bytearray(READ_BYTES)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def evict(paths: Sequence[Path]) -> float:
    """The share of the files' pages, 0 to 1, that stayed in the page cache after their eviction."""
    # dirty pages are not evicted
    os.sync()
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    return resident_share(paths)


def resident_share(paths: Sequence[Path]) -> float:
    """The share of the files' pages, 0 to 1, that lie in the page cache."""
    pages = [_resident_pages(path) for path in paths]
    return sum(resident for resident, _ in pages) / max(1, sum(total for _, total in pages))


def _resident_pages(path: Path) -> tuple[int, int]:
    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    if size == 0:
        return 0, 0
    total = -(-size // mmap.PAGESIZE)
    states = (ctypes.c_ubyte * total)()
    # ctypes takes the address of writable memory only; a private copy is never written here
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as view:
        first = ctypes.c_char.from_buffer(view)
        address = ctypes.c_void_p(ctypes.addressof(first))
        failed = libc.mincore(address, ctypes.c_size_t(size), states)
        error = ctypes.get_errno()
        del first
    if failed:
        raise OSError(error, os.strerror(error), str(path))
    return sum(state & 1 for state in states), total
