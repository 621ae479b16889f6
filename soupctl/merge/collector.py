"""Python's collector of cycles, which a table of many tensors keeps busy for nothing.

Rule 1: its thresholds are the caller's again once no work is in progress, in any thread.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

RARELY = (50_000, 20, 100)
"""Thresholds: by default, headers of 100,000 tensors take a quarter longer to read and to plan."""

_lock = Lock()
_usual: list[tuple[int, int, int]] = []
"""The caller's thresholds, once for each work in progress."""


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let the collector run rarely within the block."""
    with _lock:
        _usual.append(_usual[0] if _usual else gc.get_threshold())
        gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        with _lock:
            usual = _usual.pop()
            if not _usual:
                gc.set_threshold(*usual)
