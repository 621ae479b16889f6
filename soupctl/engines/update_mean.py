"""Weighted means whose terms include updates made of factors.

Rule 1: a product of float64 matrices with an error bound decides nearly all elements; those in
doubt are computed from exact products of the factors, by the engine, which rounds once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..format.dtypes import DType
from .addresses import address
from .contract import NonFinite, OutOfRange, WeightedMean
from .cpu import CpuEngine
from .cpu_mean import require_exact_arithmetic
from .mean_tables import format_table
from .native import native_address
from .placed_updates import EXACT_TERMS, PlacedUpdate, exact_terms, with_terms
from .reference import decode
from .updates import SLACK, UNIT, Floats

NUMBERS = {DType.F16: "<f2", DType.F32: "<f4", DType.F64: "<f8"}
CACHED = 1 << 17
"""Elements that are computed at a time, unless a row has more."""
A_FACTOR = 16
"""Bytes of an element of a factor: as float64, and in a copy while it is read or multiplied."""
BLOCK_COPIES = 6
"""Float64s in memory for each element of a block."""
EXACT_COPIES = 5
"""Float64s in memory for each of `EXACT_TERMS`."""
PLACE_COPIES = 3
"""Places in memory for each element of a chunk, if all of them are in doubt."""


def memory_of_updates(factors: int, columns: int, elements: int) -> int:
    """An upper estimate of bytes for the mean of a chunk of `elements`.

    `factors` are the elements of all factors of its tensor, which has so many columns as a matrix.
    """
    block = min(elements, max(CACHED, columns)) + 2 * columns
    # elements in doubt are computed when the blocks are done
    at_once = max(BLOCK_COPIES * block, EXACT_COPIES * EXACT_TERMS)
    numbers = at_once + PLACE_COPIES * elements
    return A_FACTOR * factors + numbers * DType.F64.bits // 8


class UpdatedMean:
    """A mean of sources and updates, bound to them; a `Combine` of the contract."""

    def __init__(
        self,
        mean: WeightedMean,
        sources: Sequence[memoryview],
        updates: Sequence[PlacedUpdate],
        columns: int,
    ) -> None:
        """`columns` are those of the tensor as a matrix; `mean` names its divisor."""
        self._mean, self._sources = mean, tuple(sources)
        self._updates, self._columns = tuple(updates), columns
        # whether float64 can bound the error without underflow
        self._is_fast = DType.F64 not in (mean.out, *mean.dtypes)
        self._width = mean.out.bits // 8
        # error of the sum of all terms, and of their shares
        self._rounding = (sum(each.update.terms for each in updates) + 6) * UNIT
        share = Fraction(mean.weights[0], mean.total)
        self._share = float(share)
        # a product with a power of two is exact; other shares are rounded, and so are their
        # products
        is_power = share.numerator.bit_count() == share.denominator.bit_count() == 1
        self._lost = 0.0 if is_power else 4 * UNIT
        if self._is_fast:
            self._bracket = _bracket_function(mean.dtypes[0], mean.out)
            self._table = format_table(mean.out)

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> None:
        """Write elements `start` to `stop` of the mean into `out`; raises as `Combine` does."""
        require_exact_arithmetic()
        if not self._is_fast:
            places = np.arange(start, stop)
        else:
            places = np.concatenate(
                [
                    np.flatnonzero(self._settle(first, last, start, out, origin)) + first
                    for first, last in self._blocks(start, stop, origin)
                ]
            )
        if len(places):
            self._settle_exactly(places, start, out, origin)

    def _blocks(self, start: int, stop: int, origin: int) -> Iterator[tuple[int, int]]:
        """Start and stop of each block: whole rows that fit a cache, except at both ends."""
        size = max(1, CACHED // self._columns) * self._columns
        while start < stop:
            last = min(stop, start + size - (origin + start) % self._columns)
            yield start, last
            start = last

    def _settle(
        self, first: int, last: int, start: int, out: memoryview, origin: int
    ) -> NDArray[np.int8]:
        """Round the elements that a bound decides; returns 1 for each of those in doubt."""
        width = self._columns
        top, bottom = (origin + first) // width, -(-(origin + last) // width)
        near, rows, columns = self._near(top, bottom)
        inside = origin + first - top * width
        for source in range(1, len(self._sources)):
            part = near.reshape(-1)[inside : inside + last - first]
            self._add_source(source, first, part, rows, columns)
        doubts = np.empty(last - first, np.int8)
        base, target = (np.frombuffer(each, np.uint8) for each in (self._sources[0], out))
        self._bracket(
            *(address(base), first, inside, last - first, width, self._share, self._lost),
            *(address(near), address(rows), address(columns)),
            *(address(target) + (first - start) * self._width, address(doubts)),
            address(self._table),
        )
        return doubts

    def _near(self, top: int, bottom: int) -> tuple[Floats, Floats, Floats]:
        """Approximate values of the sum of updates over the divisor, and their error bound.

        Several updates' bounds are combined by Cauchy and Schwarz.
        """
        near = np.zeros((bottom - top, self._columns))
        heights, widths = np.zeros(bottom - top), np.zeros(self._columns)
        for each in self._updates:
            first, last = max(top, each.target), min(bottom, each.target + each.rows)
            if first < last:
                rows = each.first + first - each.target, each.first + last - each.target
                share = each.weight / self._mean.total
                each.update.add(*rows, share, near[first - top : last - top])
                error = abs(share) * (each.update.error + self._rounding)
                part = heights[first - top : last - top]
                # no squares, because they could underflow
                np.hypot(part, each.update.row_bounds(*rows) * error, out=part)
                np.hypot(widths, each.update.columns, out=widths)
        return near, heights * SLACK, widths * SLACK

    def _add_source(
        self, source: int, first: int, near: Floats, rows: Floats, columns: Floats
    ) -> None:
        """Add another source to the values, and its rounding errors to the bound."""
        dtype = self._mean.dtypes[source]
        width = dtype.bits // 8
        view = self._sources[source][first * width : (first + len(near)) * width]
        values = widened(view, dtype) * (self._mean.weights[source] / self._mean.total)
        near += values
        most = float((np.abs(values) + np.abs(near)).max(initial=0.0))
        rows[:] = np.hypot(rows, 4 * UNIT * most) * SLACK
        columns[:] = np.hypot(columns, 1.0) * SLACK

    def _settle_exactly(
        self, places: NDArray[np.intp], start: int, out: memoryview, origin: int
    ) -> None:
        """Write the exactly rounded elements at `places`."""
        target = np.frombuffer(out, np.uint8).reshape(-1, self._width)
        size = max(1, EXACT_TERMS // sum(each.update.terms for each in self._updates))
        for first in range(0, len(places), size):
            batch = places[first : first + size]
            target[batch - start] = self._exactly(batch, origin)

    def _exactly(self, places: NDArray[np.intp], origin: int) -> NDArray[np.uint8]:
        """The exactly rounded elements at some positions, as bytes."""
        rows_of = [_elements(*each) for each in zip(self._sources, self._mean.dtypes, strict=True)]
        sources = [np.ascontiguousarray(row[places]) for row in rows_of]
        terms = exact_terms(self._updates, places + origin, self._columns)
        sources += [plane for plane, _ in terms]
        mean = with_terms(self._mean, [weight for _, weight in terms])
        out = np.empty((len(places), self._mean.out.bits // 8), np.uint8)
        combine = CpuEngine().prepare(mean, [row.data.cast("B") for row in sources])
        try:
            combine(0, len(places), out.data.cast("B"))
        except NonFinite as found:
            raise NonFinite(found.source, int(places[found.element])) from None
        except OutOfRange as found:
            raise OutOfRange(int(places[found.element])) from None
        return out


def widened(values: memoryview, dtype: DType) -> Floats:
    """The elements of a float dtype as float64s, all exactly."""
    if dtype is DType.BF16:
        codes = np.frombuffer(values, "<u2").astype(np.uint32) << 16
        return codes.view(np.float32).astype(np.float64)
    if dtype.bits == 8:
        return _small_values(dtype)[np.frombuffer(values, np.uint8)]
    return np.frombuffer(values, NUMBERS[dtype]).astype(np.float64)


@cache
def _small_values(dtype: DType) -> Floats:
    """The values of all codes of a dtype of eight bits."""
    return np.array([float(decode(code, dtype)) for code in range(256)])


def _elements(source: memoryview, dtype: DType) -> NDArray[np.generic]:
    """The elements of a source as integers of their bits."""
    return np.frombuffer(source, f"<u{dtype.bits // 8}")


@cache
def _bracket_function(dtype: DType, out: DType) -> Callable[..., int]:
    """The compiled rounding within bounds; calling it lets other threads run."""
    whole, real = ctypes.c_int64, ctypes.c_double
    prototype = ctypes.CFUNCTYPE(whole, *[whole] * 5, real, real, *[whole] * 6)
    return prototype(native_address("bracket.bracket", dtype.value, str(out.bits)))
