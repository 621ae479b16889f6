"""The engine for graphics processors: kernels there, and the processor where they prove nothing.

Rule 1: the bytes are those of the engine for processors, whatever the device and its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import LimitError
from .contract import Blend, Combine, Expand
from .cpu import CpuEngine
from .staging import Device, Slots, StagedCombine

BUDGET = 256 << 20
"""Bytes of the device's memory, and as many of pinned memory, unless a limit says less."""


class TritonEngine:
    """Means computed by a device."""

    name = "triton"

    def __init__(self, device: Device, budget: int = BUDGET) -> None:
        self._slots = Slots(device, budget)

    def prepare(self, blend: Blend, sources: Sequence[memoryview]) -> Combine:
        """Make ready to stage `sources`; kernels are compiled when they are first launched."""
        return StagedCombine(self._slots, blend, sources)

    def prepare_sum(self, blend: Blend, sources: Sequence[memoryview]) -> Expand:
        """The processor's: sums are wider than what they are made of, so carrying costs most."""
        return CpuEngine().prepare_sum(blend, sources)

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """The processor's: a sum is added up there."""
        return CpuEngine().narrow(plane, out)


def open_engine(device: str, budget: int = BUDGET) -> TritonEngine:
    """The engine on the device `cuda` or `cuda:1`; LimitError if that cannot be."""
    try:
        from .devices import open_device  # noqa: PLC0415
    except ImportError as error:
        missing = error.name or str(error)
        raise LimitError(
            f"--device {device} needs {missing}", advice="pip install 'soupctl[gpu]'"
        ) from error
    return TritonEngine(open_device(device), budget)
