"""Exact weighted sums whose terms include updates made of factors.

Rule 1: updates are computed by rows; those with factors of very different magnitudes, element by
element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ..format.dtypes import DType
from .contract import Engine, NonFinite, OutOfRange, WeightedMean
from .distillation import distilled
from .exact_rows import exact_rows
from .placed_updates import EXACT_TERMS, PlacedUpdate, exact_terms, with_terms
from .update_mean import widened
from .updates import Floats

ROWS_AT_ONCE = 1 << 14
"""Elements of whole rows that are computed at a time, unless a row has more."""
PLANE_BYTES = DType.F64.bits // 8
Term = tuple[Floats, int]
"""Float64s, and their weight."""


class UpdatedSum:
    """A sum of sources and updates, bound to them; an `Expand` of the contract."""

    def __init__(
        self,
        engine: Engine,
        mean: WeightedMean,
        sources: Sequence[memoryview],
        updates: Sequence[PlacedUpdate],
        columns: int,
    ) -> None:
        """`columns` are those of the tensor as a matrix."""
        self._engine, self._mean, self._sources = engine, mean, tuple(sources)
        self._updates, self._columns = tuple(updates), columns
        self._size = max(1, EXACT_TERMS // sum(each.update.terms for each in updates))
        self._rows = [exact_rows(each.update) for each in updates]

    def __call__(
        self, start: int, stop: int, first: memoryview, origin: int = 0
    ) -> list[memoryview]:
        """The sums as planes of float64 that add up to them; raises as `Expand` does."""
        return _joined(start, self._pieces(start, stop, origin), first, self._piece, origin)

    def _pieces(self, start: int, stop: int, origin: int) -> Iterator[tuple[int, int]]:
        """Start and stop of each piece: whole rows, except at both ends."""
        size = max(1, ROWS_AT_ONCE // self._columns) * self._columns
        while start < stop:
            end = min(stop, start + size - (origin + start) % self._columns)
            yield start, end
            start = end

    def _piece(self, start: int, stop: int, first: memoryview, origin: int) -> list[memoryview]:
        """The planes of the sums of some elements; the first plane is written to `first`."""
        terms = self._by_rows(origin + start, origin + stop)
        if terms is not None:
            return self._sum(start, stop, terms, first)
        parts = ((each, min(stop, each + self._size)) for each in range(start, stop, self._size))
        return _joined(start, parts, first, self._by_elements, origin)

    def _by_elements(
        self, start: int, stop: int, first: memoryview, origin: int
    ) -> list[memoryview]:
        terms = exact_terms(self._updates, np.arange(start, stop) + origin, self._columns)
        return self._sum(start, stop, terms, first)

    def _by_rows(self, start: int, stop: int) -> list[Term] | None:
        """The terms of elements of the tensor; None for updates that are not computed by rows."""
        top, bottom = start // self._columns, -(-stop // self._columns)
        inside = slice(start - top * self._columns, stop - top * self._columns)
        found = []
        for each, rows_of in zip(self._updates, self._rows, strict=True):
            first, last = max(top, each.target), min(bottom, each.target + each.rows)
            if first >= last:
                continue
            offset = each.first - each.target
            planes = rows_of(first + offset, last + offset)
            if planes is None:
                return None
            for plane in planes:
                rows = np.zeros((bottom - top, self._columns))
                rows[first - top : last - top] = plane
                found.append((np.ascontiguousarray(rows.reshape(-1)[inside]), each.weight))
        return found

    def _sum(
        self, begin: int, end: int, terms: Sequence[Term], first: memoryview
    ) -> list[memoryview]:
        """The sums of some elements and their terms."""
        rows = [
            source[begin * dtype.bits // 8 : end * dtype.bits // 8]
            for source, dtype in zip(self._sources, self._mean.dtypes, strict=True)
        ]
        values = [widened(*each) for each in zip(rows, self._mean.dtypes, strict=True)]
        made = distilled([*zip(values, self._mean.weights, strict=True), *terms])
        if made is not None and not len(made[1]):
            np.frombuffer(first, np.float64)[:] = made[0][0]
            return [plane.data.cast("B") for plane in made[0][1:]]
        rows += [plane.data.cast("B") for plane, _ in terms]
        mean = with_terms(self._mean, [weight for _, weight in terms])
        try:
            return self._engine.prepare_sum(mean, rows)(0, end - begin, first)
        except NonFinite as found:
            raise NonFinite(found.source, begin + found.element) from None
        except OutOfRange as found:
            raise OutOfRange(begin + found.element) from None


def _joined(
    start: int,
    parts: Iterable[tuple[int, int]],
    first: memoryview,
    planes_of: Callable[[int, int, memoryview, int], list[memoryview]],
    origin: int,
) -> list[memoryview]:
    """The planes, but the first, of elements from `start` on that are computed part by part."""
    others: list[memoryview] = []
    for begin, end in parts:
        part = slice((begin - start) * PLANE_BYTES, (end - start) * PLANE_BYTES)
        for number, plane in enumerate(planes_of(begin, end, first[part], origin)):
            if number == len(others):
                others.append(memoryview(bytearray(len(first))))
            others[number][part] = plane
    return others
