"""Progress of reading, for commands that digest whole files or rebuild a soup.

Rule 1: progress never changes a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Protocol

from ..workers import ExecutionOptions


class ReadProgress(Protocol):
    """Receives numbers of bytes, possibly from several threads at once."""

    def expect(self, size: int) -> None:
        """Bytes that are about to be read."""

    def __call__(self, size: int) -> None:
        """Bytes that were just read."""


class _NoProgress:
    def expect(self, size: int) -> None:
        """Ignore the number."""

    def __call__(self, size: int) -> None:
        """Ignore the number."""


_CURRENT: ContextVar[ReadProgress] = ContextVar("progress", default=_NoProgress())  # noqa: B039


@contextmanager
def report_reads_to(progress: ReadProgress) -> Iterator[None]:
    """Within the block, digests of whole files and rebuilds report to `progress`."""
    token = _CURRENT.set(progress)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_progress() -> ReadProgress:
    """The receiver of the innermost block; one that ignores all if there is none."""
    return _CURRENT.get()


def with_read_progress(execution: ExecutionOptions, expected: int) -> ExecutionOptions:
    """The options with a progress that also goes to the receiver, told to expect these bytes."""
    reading = current_progress()
    reading.expect(expected)

    def report(size: int) -> None:
        execution.progress(size)
        reading(size)

    return replace(execution, progress=report)
