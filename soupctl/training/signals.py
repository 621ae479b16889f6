"""Signals that are deferred until it is safe to stop.

Rule 1: the first signal is kept until `deliver`, which passes it to the handler that was installed
before; a second one reaches that handler at once. So training does not decide what an interruption
means to its caller.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .run_lock import leave_locks

DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 70
"""Bytes of a folder for temporary files in which the path of a worker's socket has at most 107."""
USUAL = "/tmp"  # noqa: S108


class DeferredSignal:
    """The first signal that arrived, kept until it is delivered."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._handlers: dict[int, object] = {}

    def install(self) -> None:
        """Replace the handlers; does nothing outside of the main thread, where Python cannot."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in DEFERRED:
            # a signal that is ignored, as under nohup, stays ignored
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._keep)

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self.restore()

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._handlers.clear()

    def deliver(self) -> None:
        """Pass the signal to its earlier handler, which usually does not return."""
        self.restore()
        if self.number is not None:
            signal.raise_signal(self.number)


@contextmanager
def deferred_signals() -> Iterator[DeferredSignal]:
    """Defer the first signal that arrives in the block."""
    kept = DeferredSignal()
    kept.install()
    try:
        yield kept
    finally:
        kept.restore()


def begin_worker(_worker: int) -> None:
    """Leave Ctrl-C to the training process, which still needs its batches, and its locks.

    Batches are sent through sockets in the folder for temporary files. If their paths are longer
    than a system takes, the training process waits for ever: then the folder is the usual one.
    """
    leave_locks()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST:
        tempfile.tempdir = USUAL
