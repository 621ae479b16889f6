"""The GPU engine: Triton kernels, and the CPU engine for the elements that they cannot prove.

Rule 1: the bytes are those of the CPU engine, on any device and with any memory budget.
"""

from __future__ import annotations

from collections.abc import Sequence

from .contract import Combine, Expand, Scales, WeightedMean
from .cpu import CpuEngine
from .staging import BufferPool, Device, StagedCombine


class TritonEngine:
    """Computes means on a GPU."""

    name = "triton"

    def __init__(self, device: Device, budget: int) -> None:
        """Use `budget` bytes of device memory for staging, and as much pinned memory."""
        self._pool = BufferPool(device, budget)

    def prepare(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Combine:
        """Bind a mean to `sources`; kernels are compiled when they are first launched.

        Those with scales are the CPU engine's: a byte an element is soon read there.
        """
        if scales is not None:
            return CpuEngine().prepare(mean, sources, scales)
        return StagedCombine(self._pool, mean, sources)

    def prepare_sum(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Expand:
        """The CPU engine's: sums are wider than their sources, so copying them costs most."""
        return CpuEngine().prepare_sum(mean, sources, scales)

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """The processor's: a sum is added up there."""
        return CpuEngine().narrow(plane, out)
