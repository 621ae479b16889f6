"""The blocks in which the tensors of a file on a server are asked for, in the order of reading."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

MOST_BEGUN = 4
"""Blocks of which some tensors were used and others not, as where those of a dtype lie together."""

Span = tuple[int, int]
"""The first byte of a range of a file, and the one after its last."""


def blocks(spans: Sequence[Span], size: int) -> list[tuple[int, Span]]:
    """Blocks of at most `size` bytes that hold the spans, in the order in which they are begun.

    Each comes with the number of the span that begins it. They follow the file, where few of them
    are begun at one time if the spans are read in order; else each holds one span, or a part, or
    several that follow each other in that order too.
    """
    by_place = list(pieces(sorted(spans), size))
    begun = _begun(by_place, spans)
    if begun is not None:
        return [(span, by_place[number]) for span, number in begun]
    order = sorted(range(len(spans)), key=lambda number: spans[number])
    starts = [spans[number][0] for number in order]
    return [(order[bisect_right(starts, piece[0]) - 1], piece) for piece in pieces(spans, size)]


def _begun(every: Sequence[Span], spans: Sequence[Span]) -> list[tuple[int, int]] | None:
    """The spans that begin blocks, with the blocks' numbers; None if many are begun at one time."""
    starts = [start for start, _ in every]
    left = [stop - start for start, stop in every]
    order: list[tuple[int, int]] = []
    begun = 0
    for span, (start, stop) in enumerate(spans):
        at, number = start, max(0, bisect_right(starts, start) - 1)
        while at < stop:
            if left[number] == every[number][1] - every[number][0]:
                order.append((span, number))
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
