"""The chunks of one tensor, which one thread makes, or several together.

Rule 1: a thread takes the next chunk when its last is done, and waits only for chunks that were
taken before; so threads may begin at any time, and none waits for one that has not begun.
Rule 2: the error is that of the first failing chunk, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Condition
from typing import NamedTuple, NoReturn

from ..workers import Advance


class ChunkWork(NamedTuple):
    """Work to do on each chunk, with memory of its own, for one thread."""

    make: Callable[[int, int], int]
    """Makes a chunk, from the first to the second place, and returns the bytes read or written."""
    record: Callable[[], object]
    """Records what was made last, chunk by chunk in order."""


def make_alone(
    chunks: Iterable[tuple[int, int]], work: Sequence[ChunkWork], advance: Advance
) -> None:
    """Make chunks, each from the first to the second place, in order."""
    for start, stop in chunks:
        moved = 0
        for each in work:
            moved += each.make(start, stop)
            each.record()
        advance(moved)


class SharedChunks:
    """Hands the chunks of a tensor out to threads, and has them recorded in order."""

    def __init__(self, chunks: Sequence[tuple[int, int]]) -> None:
        """The chunks, at least one, each from the first to the second place."""
        self._chunks = enumerate(chunks)
        self._last = len(chunks) - 1
        self._changed = Condition()
        self._recorded: dict[int, int] = {}
        """The number of chunks that are recorded, for each place in the work that has one."""
        self._failure: BaseException | None = None

    def make(self, work: Sequence[ChunkWork], advance: Advance) -> bool:
        """Make chunks until none is left; whether the last one of all is among them.

        Other threads may do the same at once, with work of their own that shares their records.
        Raises the error of the first chunk that fails in any of them.
        """
        number = -1
        while (taken := self._take()) is not None:
            number, (start, stop) = taken
            try:
                moved = 0
                for place, each in enumerate(work):
                    moved += each.make(start, stop)
                    self._wait_for(place, number)
                    each.record()
                    self._pass_on(place, number)
                advance(moved)
            except BaseException as error:  # noqa: BLE001
                self._fail(number, len(work) - 1, error)
        return number == self._last

    def _take(self) -> tuple[int, tuple[int, int]] | None:
        with self._changed:
            if self._failure is not None:
                raise self._failure
            return next(self._chunks, None)

    def _wait_for(self, place: int, number: int) -> None:
        """Wait until work at a place has recorded all chunks before; raises if one has failed."""
        recorded = self._recorded
        # once it is this chunk's turn, no other thread changes that
        if recorded.get(place, 0) == number:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._failure or recorded.get(place, 0) == number)
            if self._failure is not None:
                raise self._failure

    def _pass_on(self, place: int, number: int) -> None:
        with self._changed:
            self._recorded[place] = number + 1
            self._changed.notify_all()

    def _fail(self, number: int, last: int, error: BaseException) -> NoReturn:
        """Raise the error of a chunk, or of one before it, once all of these are recorded."""
        recorded = self._recorded
        with self._changed:
            # a chunk that is recorded may still be cancelled
            self._changed.wait_for(lambda: self._failure or recorded.get(last, 0) >= number)
            if self._failure is None:
                self._failure = error
                self._changed.notify_all()
            raise self._failure
