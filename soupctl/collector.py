"""How often Python's collector looks for cycles: objects that only refer to each other.

Rule 1: most objects of a command are freed without it, and a table of many tensors keeps it busy
for nothing.
Rule 2: a caller's thresholds are its own again once no work is in progress, in any thread.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

USUAL = gc.get_threshold()
SELDOM = (100_000, 20, 100)
"""New objects after which it runs, and how often among the older ones: what that would free stays
small beside the data of a command. By default, headers of 100,000 tensors take a quarter longer to
read and to plan."""

_lock = Lock()
_callers: list[tuple[int, int, int]] = []
"""The caller's thresholds, once for each work in progress."""


def collect_seldom() -> None:
    """Collect seldom from now on, for a process whose objects are few or live until it ends."""
    gc.set_threshold(*SELDOM)


def collect_as_usual() -> None:
    """Collect as often as usual, for libraries whose objects hold memory of a GPU."""
    gc.set_threshold(*USUAL)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Collect seldom within the block, for work in the process of a caller."""
    with _lock:
        _callers.append(_callers[0] if _callers else gc.get_threshold())
        collect_seldom()
    try:
        yield
    finally:
        with _lock:
            callers = _callers.pop()
            if not _callers:
                gc.set_threshold(*callers)
