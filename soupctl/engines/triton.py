"""The engine for graphics processors: kernels there, and the processor where they prove nothing.

Rule 1: the bytes are those of the engine for processors, whatever the device and its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from .contract import Combine, Expand, WeightedMean
from .cpu import CpuEngine
from .staging import BufferPool, Device, StagedCombine


class TritonEngine:
    """Means computed by a device."""

    name = "triton"

    def __init__(self, device: Device, budget: int) -> None:
        """Stage with `budget` bytes of the device's memory, and as many of pinned memory."""
        self._pool = BufferPool(device, budget)

    def prepare(self, mean: WeightedMean, sources: Sequence[memoryview]) -> Combine:
        """Make ready to stage `sources`; kernels are compiled when they are first launched."""
        return StagedCombine(self._pool, mean, sources)

    def prepare_sum(self, mean: WeightedMean, sources: Sequence[memoryview]) -> Expand:
        """The processor's: sums are wider than what they are made of, so carrying costs most."""
        return CpuEngine().prepare_sum(mean, sources)

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """The processor's: a sum is added up there."""
        return CpuEngine().narrow(plane, out)
