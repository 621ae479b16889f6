"""Reading tensors of a file elsewhere in the order of their names, ahead of need.

Rule 1: only bytes of tensors are read, in blocks that tensors next to each other share.
Rule 2: blocks are read several at once, and held until all their bytes were used; what all readers
together hold is bounded.
Rule 3: a read out of order is right, only slower: no read waits for another to be used.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Lock

from ...errors import OutputError
from ...storage.elsewhere import FileElsewhere
from ...workers import MOST_THREADS, available_cores

LARGEST_BLOCK = 4 << 20
SMALLEST_BLOCK = 64 << 10
MOST_HELD = 64 << 20
"""Bytes that all readers together hold, unless there are hundreds."""
AHEAD = 4
"""Blocks that a reader asks for ahead of the one that is used."""
MOST_BEGUN = 4
"""Blocks of which some tensors were used and others not, as where those of a dtype lie together."""
AT_ONCE = 8
"""Requests at one time."""

Span = tuple[int, int]
_READERS: list[int] = [0]
"""How many readers are open."""


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="soupctl-ahead")


class Version:
    """The version of a file elsewhere that was opened."""

    def __init__(self, file: FileElsewhere) -> None:
        self._file = file

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._file is other._file

    def __hash__(self) -> int:
        return id(self._file)

    def is_at(self, _path: object) -> bool:
        """Whether the server still has it; InputError if it does not answer."""
        return self._file.is_unchanged()


class RangeReader:
    """Reads parts of one file, from several threads at once, until it is closed."""

    def __init__(self, file: FileElsewhere, spans: Iterable[Span]) -> None:
        """`spans` are the bytes that will be read, in that order."""
        self._file = file
        self.identity = None
        self._spans = tuple(spans)
        self._blocks: list[Span] = []
        self._by_start: list[int] = []
        self._starts: list[int] = []
        self._left: list[int] = []
        """Bytes of each block that were not used."""
        self._held: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._lock = Lock()
        self._is_closed = False
        _READERS[0] += 1

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the bytes at `offset`.

        Raises InputError if they cannot be read, OutputError if the file has changed, ValueError
        after `close`.
        """
        if self._is_closed:
            raise ValueError("the file is closed")
        filled = 0
        while filled < len(buffer):
            number = self._block_at(offset + filled)
            start, stop = self._blocks[number]
            skip = offset + filled - start
            size = min(stop - start - skip, len(buffer) - filled)
            data = self._data(number)
            buffer[filled : filled + size] = memoryview(data)[skip : skip + size]
            self._use(number, size)
            filled += size

    def _block_at(self, offset: int) -> int:
        """The number of the block that holds a byte."""
        with self._lock:
            if not self._blocks:
                self._divide()
        place = bisect_right(self._starts, offset) - 1
        number = self._by_start[max(place, 0)]
        start, stop = self._blocks[number]
        if not start <= offset < stop:
            raise OutputError("changed while it was read", path=self._file.address)
        return number

    def _divide(self) -> None:
        """Divide the spans into blocks, when it is known how many files are read."""
        self._most = AHEAD + min(MOST_THREADS, available_cores()) + MOST_BEGUN
        share = MOST_HELD // (max(1, _READERS[0]) * self._most)
        size = max(SMALLEST_BLOCK, min(LARGEST_BLOCK, share))
        self._blocks = blocks(self._spans, size)
        self._left = [stop - start for start, stop in self._blocks]
        self._by_start = sorted(range(len(self._blocks)), key=lambda n: self._blocks[n][0])
        self._starts = [self._blocks[n][0] for n in self._by_start]

    def _data(self, number: int) -> bytes:
        """The bytes of a block; the next ones are asked for."""
        with self._lock:
            if number not in self._held and not self._left[number]:
                start, stop = self._blocks[number]
                self._left[number] = stop - start
            for each in range(number, min(number + AHEAD + 1, len(self._blocks))):
                if each not in self._held and self._left[each]:
                    self._held[each] = _pool().submit(self._file.read, *self._blocks[each])
            self._held.move_to_end(number)
            future = self._held[number]
            self._release(number)
        try:
            return future.result()
        except BaseException:
            with self._lock:
                self._held.pop(number, None)
            raise

    def _release(self, number: int) -> None:
        """Let go of the blocks unused for the longest, where too many are held."""
        for each in [*self._held]:
            if len(self._held) <= self._most:
                return
            if not number <= each <= number + AHEAD:
                self._held.pop(each)

    def _use(self, number: int, size: int) -> None:
        """Let go of a block once all of it was used."""
        with self._lock:
            self._left[number] = max(0, self._left[number] - size)
            if not self._left[number]:
                self._held.pop(number, None)

    def close(self) -> None:
        """Let go of all blocks; nothing can be read any more."""
        if not self._is_closed:
            self._is_closed = True
            _READERS[0] -= 1
        with self._lock:
            for future in self._held.values():
                future.cancel()
            self._held.clear()


def blocks(spans: Sequence[Span], size: int) -> list[Span]:
    """Blocks of at most `size` bytes that hold the spans, in the order in which they are begun.

    They follow the file, where few of them are begun at one time if the spans are read in order;
    else each holds one span, or a part, or several that follow each other in that order too.
    """
    by_place = list(pieces(sorted(spans), size))
    order = _order(by_place, spans)
    if order is not None:
        return [by_place[number] for number in order]
    return list(pieces(spans, size))


def _order(every: Sequence[Span], spans: Sequence[Span]) -> list[int] | None:
    """The blocks in the order in which they are begun; None if many are begun at one time."""
    starts = [start for start, _ in every]
    left = [stop - start for start, stop in every]
    order: list[int] = []
    begun = 0
    for start, stop in spans:
        at, number = start, max(0, bisect_right(starts, start) - 1)
        while at < stop:
            if left[number] == every[number][1] - every[number][0]:
                order.append(number)
                begun += 1
            used = min(stop, every[number][1]) - at
            left[number] -= used
            begun -= not left[number]
            at, number = at + used, number + 1
        if begun > MOST_BEGUN:
            return None
    return order


def pieces(spans: Iterable[Span], size: int) -> Iterator[Span]:
    """The spans, joined where one begins at the other's end, in pieces of at most `size` bytes."""
    for start, stop in joined(spans):
        yield from ((at, min(at + size, stop)) for at in range(start, stop, size))


def joined(spans: Iterable[Span]) -> Iterator[Span]:
    """The spans in order, joined where one begins at the other's end; empty ones are left out."""
    last: Span | None = None
    for start, stop in spans:
        if start == stop:
            continue
        if last is not None and last[1] == start:
            last = (last[0], stop)
            continue
        if last is not None:
            yield last
        last = (start, stop)
    if last is not None:
        yield last
