"""Exact sums as floating-point expansions: the nearest float64, then that of the remainder, ...

Rule 1: there is no arithmetic here: each plane is a mean with divisor one, of the sources with
their weights and of the planes before it with weight -1. See Shewchuk, "Adaptive Precision
Floating-Point Arithmetic and Fast Robust Geometric Predicates" (1997), section 2.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace

from ..format.dtypes import DType
from .contract import Engine, NonFinite, OutOfRange, Scales, WeightedMean

WIDTH = DType.F64.bits // 8


class Expansion:
    """A sum that an engine computes plane by plane."""

    def __init__(
        self,
        engine: Engine,
        mean: WeightedMean,
        sources: Sequence[memoryview],
        scales: Scales | None = None,
    ) -> None:
        self._scales = scales
        self._engine = engine
        self._mean = mean
        self._sources = tuple(sources)

    def __call__(
        self, start: int, stop: int, first: memoryview, origin: int = 0
    ) -> list[memoryview]:
        """Fill the first plane of elements `start` to `stop`, return the others; see `Expand`."""
        widths = [dtype.bits // 8 for dtype in self._mean.dtypes]
        rows = [
            view[start * width : stop * width]
            for view, width in zip(self._sources, widths, strict=True)
        ]
        self._next(rows, [], start, first, origin)
        nothing = bytes(len(first))
        planes = [first]
        while True:
            plane = bytearray(nothing)
            self._next(rows, planes, start, memoryview(plane), origin)
            if plane == nothing:
                return planes[1:]
            planes.append(memoryview(plane))

    def _next(
        self,
        rows: list[memoryview],
        planes: list[memoryview],
        start: int,
        out: memoryview,
        origin: int,
    ) -> None:
        """Write the float64 nearest to the sum of `rows` minus `planes` into `out`."""
        mean = WeightedMean(
            (*self._mean.dtypes, *(DType.F64 for _ in planes)),
            (*self._mean.weights, *(-1 for _ in planes)),
            DType.F64,
            divisor=1,
        )
        scales = None if self._scales is None else with_ones(self._scales, len(rows), len(planes))
        try:
            combine = self._engine.prepare(mean, [*rows, *planes], scales)
            combine(0, len(out) // WIDTH, out, origin + start)
        except NonFinite as found:
            raise NonFinite(found.source, start + found.element) from None
        except OutOfRange as found:
            raise OutOfRange(start + found.element) from None


def with_ones(scales: Scales, count: int, more: int) -> Scales:
    """The scales of `count` sources, and of `more` behind them that have none."""
    factors = scales.factors.cast("B").cast("d")
    wide = array("d")
    for start in range(0, len(factors), count):
        wide.extend([*factors[start : start + count], *[1.0] * more])
    return replace(scales, factors=memoryview(wide))
