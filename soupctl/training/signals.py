"""Signals, put off until it is safe to stop.

Rule 1: the first signal is kept until `deliver`, which hands it to whoever would have had it; a
second one is theirs at once. So training need not know what an interruption is to its caller.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

POSTPONED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DeferredSignal:
    """The signal that came, if any."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._handlers: dict[int, object] = {}

    def begin(self) -> None:
        """Take the signals' place; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in POSTPONED:
            # what a caller such as nohup ignores stays ignored
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._keep)

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self.end()

    def end(self) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._handlers.clear()

    def deliver(self) -> None:
        """Hand on the signal that came, which seldom returns."""
        self.end()
        if self.number is not None:
            signal.raise_signal(self.number)


@contextmanager
def deferred_signals() -> Iterator[DeferredSignal]:
    """Keep the first signal that comes while the block lasts."""
    kept = DeferredSignal()
    kept.begin()
    try:
        yield kept
    finally:
        kept.end()
