"""The CPU engine: compiled kernels over memory of any alignment.

Rule 1: importing this module does not load numpy.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache

from ..frozen import frozen
from .addresses import address
from .contract import Scales, WeightedMean
from .cpu_codes import CpuLargest, CpuQuantise
from .cpu_mean import CpuCombine, CpuExpand
from .native import native_address


@frozen
class CpuEngine:
    """Computes means in float64 where that is proved exact, else in integers."""

    name: str = "cpu"

    def prepare(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> CpuCombine:
        """Compile the kernels for the mean's dtypes, if necessary, and record row addresses."""
        return CpuCombine(mean, sources, scales)

    def prepare_sum(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> CpuExpand:
        """Bind the mean's exact sum to the addresses of its rows."""
        return CpuExpand(self, mean, sources, scales)

    def prepare_largest(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> CpuLargest:
        """Bind the search for the mean's largest magnitude to the addresses of its rows."""
        return CpuLargest(mean, sources, scales)

    def prepare_codes(
        self,
        mean: WeightedMean,
        scale: float,
        sources: Sequence[memoryview],
        scales: Scales | None = None,
    ) -> CpuQuantise:
        """Bind the mean, rounded to codes, to the addresses of its rows."""
        return CpuQuantise(mean, scale, sources, scales)

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """Narrow by one compiled pass; both buffers are aligned for their elements."""
        return not narrow_function()(address(plane), len(plane) // 8, address(out))


@cache
def narrow_function() -> Callable[..., int]:
    """The compiled narrowing; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)
    return prototype(native_address("narrow.narrow"))
