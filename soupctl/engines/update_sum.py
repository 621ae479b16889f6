"""Exact weighted sums whose terms include updates made of factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..format.dtypes import DType
from .contract import Engine, NonFinite, OutOfRange, WeightedMean
from .placed_updates import EXACT_TERMS, PlacedUpdate, exact_terms, with_terms

PLANE_BYTES = DType.F64.bits // 8


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

    def __call__(
        self, start: int, stop: int, first: memoryview, origin: int = 0
    ) -> list[memoryview]:
        """The sums as planes of float64 that add up to them; raises as `Expand` does."""
        others: list[memoryview] = []
        for begin in range(start, stop, self._size):
            end = min(stop, begin + self._size)
            part = slice((begin - start) * PLANE_BYTES, (end - start) * PLANE_BYTES)
            for number, plane in enumerate(self._batch(begin, end, first[part], origin)):
                if number == len(others):
                    others.append(memoryview(bytearray((stop - start) * PLANE_BYTES)))
                others[number][part] = plane
        return others

    def _batch(self, begin: int, end: int, first: memoryview, origin: int) -> list[memoryview]:
        """The sums of a few elements."""
        terms = exact_terms(self._updates, np.arange(begin, end) + origin, self._columns)
        rows = [
            source[begin * dtype.bits // 8 : end * dtype.bits // 8]
            for source, dtype in zip(self._sources, self._mean.dtypes, strict=True)
        ]
        rows += [plane.data.cast("B") for plane, _ in terms]
        mean = with_terms(self._mean, [weight for _, weight in terms])
        try:
            return self._engine.prepare_sum(mean, rows)(0, end - begin, first)
        except NonFinite as found:
            raise NonFinite(found.source, begin + found.element) from None
        except OutOfRange as found:
            raise OutOfRange(begin + found.element) from None
