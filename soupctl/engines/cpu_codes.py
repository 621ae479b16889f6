"""Codes of eight bits, and the largest mean, by the compiled kernels; see `kernels/codes.py`."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache

from ..format.dtypes import DType
from ..kernels import tables
from .addresses import address
from .contract import CodeSums, Scales, WeightedMean
from .cpu_mean import CpuCombine, raise_failure, require_exact_arithmetic
from .mean_tables import RANKS, MeanTables
from .native import native_address

WORD = 8
LIMBS = WORD * tables.TILE_SCRATCH
"""Where in the memory of a pass the scratch of exact results begins."""
VALUES = WORD * tables.FOUND_END
"""Where in that memory a piece of means may be kept."""


class _Memory:
    """The memory of one pass: a tile, what is found, and a piece of means."""

    def __init__(self) -> None:
        self.cells = (ctypes.c_int64 * (tables.FOUND_END + tables.PIECE))()
        self.found = (ctypes.c_double * tables.FOUND_END).from_buffer(self.cells)
        self.place = ctypes.addressof(self.cells)

    def largest(self, total: int) -> float:
        """The largest mean: that of the largest exact sum, or one that was rounded on its own."""
        most = Fraction(self.found[tables.LARGEST_SUM]) / total
        return max(float(most), self.found[tables.LARGEST_MEAN])


class CpuLargest:
    """A mean whose largest magnitude is found."""

    def __init__(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> None:
        self._total = mean.total
        self._bound = CpuCombine(replace(mean, out=DType.F64), sources, scales)
        dtypes = sorted({*mean.dtypes}, key=RANKS.__getitem__)
        self._peaks = array("q", [native_address("peaks.peaks", each.value) for each in dtypes])
        self._find = largest_function()

    def __call__(self, start: int, stop: int, origin: int = 0) -> float:
        """The largest magnitude of elements `start` to `stop` of the mean; see `Largest`."""
        require_exact_arithmetic()
        memory, table = _Memory(), self._bound.table
        while status := self._find(
            address(table), address(self._peaks), origin, start, stop,
            memory.place, memory.place + VALUES, memory.place + LIMBS,
        ):  # fmt: skip
            if status != tables.UNRESOLVED:
                raise_failure(status, memory.cells)
            # compiled when first needed: what was found so far is found again
            table[tables.RESOLVE] = native_address("exact.resolve")
        return memory.largest(self._total)


class CpuQuantise:
    """A mean whose codes are made, with the sums of their errors."""

    def __init__(
        self,
        mean: WeightedMean,
        scale: float,
        sources: Sequence[memoryview],
        scales: Scales | None = None,
    ) -> None:
        self._total = mean.total
        self._bound = CpuCombine(replace(mean, out=DType.F64), sources, scales)
        shared = MeanTables(mean, scales, scale)
        self._codes = shared.table[:]
        self._codes[tables.ROWS] = self._bound.table[tables.ROWS]
        self._factor = float(self._codes[tables.FACTOR])
        self._quantise = quantise_function()
        self._kept = shared

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> CodeSums:
        """Write the codes of elements `start` to `stop` into `out`; see `Quantise`."""
        require_exact_arithmetic()
        memory, both = _Memory(), (self._bound.table, self._codes)
        while status := self._quantise(
            *map(address, both), origin, start, stop, address(out),
            memory.place, memory.place + VALUES, memory.place + LIMBS,
        ):  # fmt: skip
            if status != tables.UNRESOLVED:
                raise_failure(status, memory.cells)
            for table in both:
                table[tables.RESOLVE] = native_address("exact.resolve")
            # the pass begins anew, and so do its sums
            memory = _Memory()
        found = memory.found
        sums = found[tables.ERRORS : tables.SQUARES], found[tables.SQUARES : tables.LARGEST_SUM]
        errors, squares = (self._factor**2 * sum(each) for each in sums)
        return CodeSums(memory.largest(self._total), errors, squares)


@cache
def largest_function() -> Callable[..., int]:
    """The compiled search; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 8)
    return prototype(native_address("codes.largest"))


@cache
def quantise_function() -> Callable[..., int]:
    """The compiled pass that makes codes; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 9)
    return prototype(native_address("codes.quantise"))
