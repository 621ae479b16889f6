"""Exact weighted sums whose terms include updates made of factors.

Rule 1: products of two stored factors are computed by rows; other updates, and factors of very
different magnitudes, element by element.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..format.dtypes import DType
from .contract import Engine, NonFinite, OutOfRange, WeightedMean
from .exact_planes import Planes
from .exact_products import exact_product, slice_bits, slices_of
from .placed_updates import EXACT_TERMS, PlacedUpdate, exact_terms, with_terms
from .updates import Floats, Matrix, Product

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
        self._sliced = [_sliced(each) for each in updates]

    def __call__(
        self, start: int, stop: int, first: memoryview, origin: int = 0
    ) -> list[memoryview]:
        """The sums as planes of float64 that add up to them; raises as `Expand` does."""
        terms = self._by_rows(origin + start, origin + stop)
        if terms is not None:
            return self._sum(start, stop, terms, first)
        others: list[memoryview] = []
        for begin in range(start, stop, self._size):
            end = min(stop, begin + self._size)
            part = slice((begin - start) * PLANE_BYTES, (end - start) * PLANE_BYTES)
            places = np.arange(begin, end) + origin
            terms = exact_terms(self._updates, places, self._columns)
            for number, plane in enumerate(self._sum(begin, end, terms, first[part])):
                if number == len(others):
                    others.append(memoryview(bytearray((stop - start) * PLANE_BYTES)))
                others[number][part] = plane
        return others

    def _by_rows(self, start: int, stop: int) -> list[Term] | None:
        """The terms of elements of the tensor; None for updates that are not computed by rows."""
        top, bottom = start // self._columns, -(-stop // self._columns)
        inside = slice(start - top * self._columns, stop - top * self._columns)
        found = []
        for each, product in zip(self._updates, self._sliced, strict=True):
            first, last = max(top, each.target), min(bottom, each.target + each.rows)
            if first >= last:
                continue
            offset = each.first - each.target
            planes = None if product is None else product.rows(first + offset, last + offset)
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
        rows += [plane.data.cast("B") for plane, _ in terms]
        mean = with_terms(self._mean, [weight for _, weight in terms])
        try:
            return self._engine.prepare_sum(mean, rows)(0, end - begin, first)
        except NonFinite as found:
            raise NonFinite(found.source, begin + found.element) from None
        except OutOfRange as found:
            raise OutOfRange(begin + found.element) from None


class _SlicedProduct:
    """A product of two stored factors, of which the right one is sliced."""

    def __init__(self, left: Floats, right: Floats) -> None:
        self._left, self._columns = left, right.shape[1]
        self._bits = slice_bits(left.shape[1])
        self._right = slices_of(right, 0, self._bits)

    def rows(self, start: int, stop: int) -> Planes | None:
        """The planes of some rows; None for factors that take too many slices."""
        left = slices_of(self._left[start:stop], 1, self._bits)
        if left is None or self._right is None:
            return None
        return exact_product(left, self._right, (stop - start, self._columns))


def _sliced(each: PlacedUpdate) -> _SlicedProduct | None:
    """The product that an update is; None for any other update."""
    update = each.update
    if not isinstance(update, Product):
        return None
    left, right = update.left, update.right
    if not (isinstance(left, Matrix) and isinstance(right, Matrix)):
        return None
    return _SlicedProduct(left.values, right.values)
