"""Watching how much of the files that a command digests has been read.

Rule 1: nothing here can change a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Watcher(Protocol):
    """Told what is read; possibly from several threads at once."""

    def expect(self, size: int) -> None:
        """Told of bytes that are about to be read."""

    def __call__(self, size: int) -> None:
        """Told of bytes that were just read."""


class _Nobody:
    def expect(self, size: int) -> None:
        """Nothing."""

    def __call__(self, size: int) -> None:
        """Nothing."""


_WATCHER: ContextVar[Watcher] = ContextVar("watcher", default=_Nobody())  # noqa: B039


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Within the block, digests of whole files and rebuilds are reported to `watcher`."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def present_watcher() -> Watcher:
    """The innermost watcher; one that does nothing if there is none."""
    return _WATCHER.get()
