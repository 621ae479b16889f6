"""Codes of eight bits, and the largest mean, by the compiled kernels; see `kernels/codes.py`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache

from ..format.dtypes import DType
from ..kernels import tables
from .addresses import address
from .contract import CodeSums, Scales, WeightedMean
from .cpu_mean import CpuCombine, Scratch, raise_failure, require_exact_arithmetic
from .mean_tables import MeanTables
from .native import native_address

Found = ctypes.c_double * (tables.FOUND_LENGTH + tables.TILE)
VALUES = 8 * tables.FOUND_LENGTH
"""Where in that memory a tile of means may be kept."""


class CpuLargest:
    """A mean whose largest magnitude is found."""

    def __init__(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> None:
        self._total = mean.total
        self._bound = CpuCombine(replace(mean, out=DType.F64), sources, scales)
        self._find = largest_function()

    def __call__(self, start: int, stop: int, origin: int = 0) -> float:
        """The largest magnitude of elements `start` to `stop` of the mean; see `Largest`."""
        require_exact_arithmetic()
        scratch, found = Scratch(), Found()
        tile = ctypes.addressof(scratch)
        table, place = self._bound.table, ctypes.addressof(found)
        limbs = tile + 8 * tables.TILE_SCRATCH
        while status := self._find(
            address(table), origin, start, stop, tile, place, place + VALUES, limbs
        ):
            if status != tables.UNRESOLVED:
                raise_failure(status, scratch)
            # compiled when first needed: what was found so far is found again
            table[tables.RESOLVE] = native_address("exact.resolve")
        return largest_found(found, self._total)


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
        scratch, found = Scratch(), Found()
        tile = ctypes.addressof(scratch)
        both, place = (self._bound.table, self._codes), ctypes.addressof(found)
        limbs = tile + 8 * tables.TILE_SCRATCH
        while status := self._quantise(
            *map(address, both), origin, start, stop, address(out),
            tile, place, place + VALUES, limbs,
        ):  # fmt: skip
            if status != tables.UNRESOLVED:
                raise_failure(status, scratch)
            for table in both:
                table[tables.RESOLVE] = native_address("exact.resolve")
            found = Found()
            place = ctypes.addressof(found)
        sums = found[tables.ERRORS : tables.SQUARES], found[tables.SQUARES : tables.LARGEST_SUM]
        errors, squares = (self._factor**2 * sum(each) for each in sums)
        return CodeSums(largest_found(found, self._total), errors, squares)


def largest_found(found: ctypes.Array[ctypes.c_double], total: int) -> float:
    """The largest mean: that of the largest exact sum, or one that was rounded on its own."""
    most = Fraction(found[tables.LARGEST_SUM]) / total
    return max(float(most), found[tables.LARGEST_MEAN])


@cache
def largest_function() -> Callable[..., int]:
    """The compiled search; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 8)
    return prototype(native_address("codes.largest"))


@cache
def quantise_function() -> Callable[..., int]:
    """The compiled pass that makes codes; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 10)
    return prototype(native_address("codes.quantise"))
