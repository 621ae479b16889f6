"""Exact sums as floating-point expansions: the nearest float64, then that of the remainder, ...

Rule 1: there is no arithmetic here: each plane is a mean with divisor one, of the sources with
their weights and of the planes before it with weight -1. See Shewchuk, "Adaptive Precision
Floating-Point Arithmetic and Fast Robust Geometric Predicates" (1997), section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..format.dtypes import DType
from .contract import Engine, NonFinite, OutOfRange, WeightedMean

WIDTH = DType.F64.bits // 8


class Expansion:
    """A sum that an engine computes plane by plane."""

    def __init__(self, engine: Engine, mean: WeightedMean, sources: Sequence[memoryview]) -> None:
        self._engine = engine
        self._mean = mean
        self._sources = tuple(sources)

    def __call__(self, start: int, stop: int, first: memoryview) -> list[memoryview]:
        """Fill the first plane of elements `start` to `stop`, return the others; see `Expand`."""
        widths = [dtype.bits // 8 for dtype in self._mean.dtypes]
        rows = [
            view[start * width : stop * width]
            for view, width in zip(self._sources, widths, strict=True)
        ]
        self._next(rows, [], start, first)
        nothing = bytes(len(first))
        planes = [first]
        while True:
            plane = bytearray(nothing)
            self._next(rows, planes, start, memoryview(plane))
            if plane == nothing:
                return planes[1:]
            planes.append(memoryview(plane))

    def _next(
        self, rows: list[memoryview], planes: list[memoryview], start: int, out: memoryview
    ) -> None:
        """Write the float64 nearest to the sum of `rows` minus `planes` into `out`."""
        mean = WeightedMean(
            (*self._mean.dtypes, *(DType.F64 for _ in planes)),
            (*self._mean.weights, *(-1 for _ in planes)),
            DType.F64,
            divisor=1,
        )
        try:
            self._engine.prepare(mean, [*rows, *planes])(0, len(out) // WIDTH, out)
        except NonFinite as found:
            raise NonFinite(found.source, start + found.element) from None
        except OutOfRange as found:
            raise OutOfRange(start + found.element) from None
