"""The GPU engine: Triton kernels, and the CPU engine for the elements that they cannot prove.

Rule 1: the bytes equal those of the CPU engine, on any devices and with any memory budget.
"""

from __future__ import annotations

from collections.abc import Sequence

from .contract import Combine, Expand, Largest, Quantise, Scales, WeightedMean
from .cpu import CpuEngine
from .staging import BufferPools, Device, StagedCombine


class TritonEngine:
    """Computes means on one GPU or several, which share the work."""

    name = "triton"

    def __init__(self, devices: Sequence[Device], budget: int) -> None:
        """Use `budget` bytes of each device's memory for staging, and as much pinned memory."""
        self._pools = BufferPools(devices, budget)

    def prepare(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Combine:
        """Bind a mean to `sources`; kernels are compiled when they are first launched.

        Means with scales go to the CPU engine: at one byte an element, reading is soon done there.
        """
        if scales is not None:
            return CpuEngine().prepare(mean, sources, scales)
        return StagedCombine(self._pools, mean, sources)

    def prepare_sum(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Expand:
        """Bind a sum in the CPU engine: sums are wide, so copying them costs most."""
        return CpuEngine().prepare_sum(mean, sources, scales)

    def prepare_largest(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Largest:
        """Bind the search in the CPU engine, which has the sources at hand."""
        return CpuEngine().prepare_largest(mean, sources, scales)

    def prepare_codes(
        self,
        mean: WeightedMean,
        scale: float,
        sources: Sequence[memoryview],
        scales: Scales | None = None,
    ) -> Quantise:
        """Bind the mean in the CPU engine, as in `prepare_largest`."""
        return CpuEngine().prepare_codes(mean, scale, sources, scales)

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """Narrow a plane on the processor, where sums are computed."""
        return CpuEngine().narrow(plane, out)
