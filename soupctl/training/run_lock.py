"""The lock on a run's folder, against other runs in it.

Rule 1: only the main process holds it, so it ends with this process however it ends, although
worker processes that load images live on for seconds.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import OutputError

_held: set[int] = set()
"""Descriptors of the folders that this process locks."""


@contextmanager
def locked_run(out: Path, accelerator: Any) -> Iterator[None]:
    """Lock the folder against other runs; the main process does it for all processes."""
    if not accelerator.is_main_process:
        yield
        return
    fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    _held.add(fd)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError("is in use by another run", path=out) from None
        yield
    finally:
        _held.discard(fd)
        os.close(fd)


def leave_locks() -> None:
    """Leave all locks to the parent process, of which this one is a fork."""
    while _held:
        os.close(_held.pop())
