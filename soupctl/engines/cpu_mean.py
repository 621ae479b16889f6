"""Means and sums by the compiled kernels.

Rule 1: a prepared mean holds tables of addresses but no data; scratch memory lives for one call.
Rule 2: a prepared mean may be called from several threads at once.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from typing import NoReturn

from ..format.dtypes import DType
from ..kernels import tables
from .addresses import address
from .contract import Engine, NonFinite, OutOfRange, Scales, WeightedMean
from .expansion import Expansion
from .mean_tables import MeanTables, mean_tables
from .native import native_address

Scratch = ctypes.c_int64 * (tables.TILE_SCRATCH + tables.RESOLVE_SCRATCH)
SumScratch = ctypes.c_double * tables.TILE_SCRATCH

# names, so that the processor computes with them at each call, and not the compiler once
SMALLEST_NORMAL, HALF, ONE = sys.float_info.min, 0.5, 1.0
ULP, MOST_OF_AN_ULP = sys.float_info.epsilon, 0.75 * sys.float_info.epsilon


class CpuCombine:
    """A prepared mean: tables of addresses, and the views that keep them valid."""

    def __init__(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> None:
        shared = mean_tables(mean) if scales is None else MeanTables(mean, scales)
        views = [sources[row] for row in shared.rows if sources[row].nbytes]
        addresses = array("q", map(address, views))
        self.table = shared.table[:]
        self.table[tables.ROWS] = address(addresses)
        self._combine = combine_function()
        self._width = shared.width
        self._kept = (views, addresses, shared)

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> None:
        """Write elements `start` to `stop` of the mean into `out`.

        Raises NonFinite or OutOfRange for the lowest failing element, ArithmeticError in a thread
        whose processor was told to flush subnormals or to round other than to nearest.
        """
        if start == stop:
            return
        require_exact_arithmetic()
        target = address(out)
        scratch = Scratch()
        tile = ctypes.addressof(scratch)
        limbs = tile + 8 * tables.TILE_SCRATCH
        table = address(self.table)
        status = self._combine(table, origin, start, stop, target, tile, limbs)
        while status == tables.UNRESOLVED:
            # compiled when first needed: most checkpoints never do
            self.table[tables.RESOLVE] = native_address("exact.resolve")
            first = scratch[tables.TILE_SCRATCH + tables.ROW]
            place = target + (first - start) * self._width
            status = self._combine(table, origin, first, stop, place, tile, limbs)
        if status != tables.DONE:
            raise_failure(status, scratch)


class CpuExpand:
    """A prepared sum: one pass where a float64 holds it, else the expansion."""

    def __init__(
        self,
        engine: Engine,
        mean: WeightedMean,
        sources: Sequence[memoryview],
        scales: Scales | None,
    ) -> None:
        whole = WeightedMean(mean.dtypes, mean.weights, DType.F64, divisor=1)
        self._tables = CpuCombine(whole, sources, scales)
        self._expand = Expansion(engine, whole, sources, scales)
        self._accumulate = accumulate_function()

    def __call__(
        self, start: int, stop: int, first: memoryview, origin: int = 0
    ) -> list[memoryview]:
        """Fill the first plane of elements `start` to `stop`, return the others; see `Expand`."""
        require_exact_arithmetic()
        if start == stop:
            return []
        tile = SumScratch()
        table = address(self._tables.table)
        place = ctypes.addressof(tile)
        if self._accumulate(table, origin, start, stop, address(first), place):
            return self._expand(start, stop, first, origin)
        return []


def raise_failure(status: int, scratch: ctypes.Array[ctypes.c_int64]) -> NoReturn:
    """Raise the error that the status of a kernel reports, for the element in its scratch."""
    state = scratch[tables.TILE_SCRATCH :]
    if status == tables.NOT_FINITE:
        raise NonFinite(state[tables.RESULT], state[tables.ROW])
    raise OutOfRange(state[tables.ROW])


def require_exact_arithmetic() -> None:
    """ArithmeticError unless this thread keeps subnormals and rounds to nearest."""
    keeps = SMALLEST_NORMAL * HALF / HALF == SMALLEST_NORMAL
    up = ONE + MOST_OF_AN_ULP == ONE + ULP
    down = -ONE - MOST_OF_AN_ULP == -ONE - ULP
    if not (keeps and up and down):
        raise ArithmeticError("this thread's floating-point mode is not the default one")


@cache
def combine_function() -> Callable[..., int]:
    """The compiled driver; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 7)
    return prototype(native_address("combine.combine"))


@cache
def accumulate_function() -> Callable[..., int]:
    """The compiled pass of a sum; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 6)
    return prototype(native_address("combine.accumulate"))
