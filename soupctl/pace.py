"""How fast work goes, and the threads that do it; nothing here can change a result.

Rule 1: results are taken in the order of their tasks, so the first refusal in that order is the one
that is told, whatever the number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Generic, TypeVar

from .errors import LimitError, UsageError

Task = TypeVar("Task")
Result = TypeVar("Result")

MOST_THREADS = 16


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, never what: no field here can change a byte of the result."""

    threads: int = field(default_factory=lambda: min(MOST_THREADS, available_cores()))
    chunk: int | None = None
    """Elements in a chunk; None to fit the cache."""
    progress: Callable[[int], None] = lambda size: None
    """Told how many more bytes were read or written."""

    def __post_init__(self) -> None:
        """Refuse what would do no work, with UsageError."""
        if self.threads < 1 or (self.chunk is not None and self.chunk < 1):
            raise UsageError("a pace has at least one thread, and chunks of at least one element")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Line(Generic[Task, Result]):
    """Tasks that wait in line for one of the threads of a pace."""

    def __init__(self, run: Callable[[Task], Result], pace: Pace) -> None:
        self.run = run
        """What becomes of a task; it may call `advance` at any time."""
        self.pace = pace
        self._stopped = Event()

    def advance(self, size: int) -> None:
        """Tell the progress; CancelledError if all is over, so that a thread leaves at once."""
        if self._stopped.is_set():
            raise CancelledError
        self.pace.progress(size)

    def results(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """The result of every task, in their order, worked on by several threads at once."""
        if self.pace.threads == 1:
            yield from map(self.run, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self.pace.threads, thread_name_prefix="soupctl") as pool:
            try:
                for task in tasks:
                    waiting.append(self._submit(pool, task))
                    # a bounded queue: neither tasks nor results pile up behind one large task
                    if len(waiting) > 4 * self.pace.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, task: Task) -> Future[Result]:
        try:
            return pool.submit(self.run, task)
        except RuntimeError as error:
            # the system has no room for one more
            raise LimitError(str(error), advice="--threads 1 needs none") from None
