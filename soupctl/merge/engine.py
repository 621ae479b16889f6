"""The engine that a pace asks for; whichever it is, the bytes are the same."""

from __future__ import annotations

from dataclasses import replace

from ..engines.contract import Engine
from ..workers import Pace

DEVICE_CHUNK = 1 << 19
"""Elements in a chunk for a device: it gains nothing from a cache, and loses by each launch."""


def engine_of(pace: Pace) -> tuple[Engine, Pace]:
    """The engine, and the pace that suits it; LimitError for a device that cannot be had."""
    # numba comes with it: what only looks must not wait for that, and if it cannot be loaded then
    # before anything is made
    if pace.is_on_processor:
        from ..engines.cpu import CpuEngine

        return CpuEngine(), pace
    from ..engines.choice import open_engine

    return open_engine(pace.device, pace.staging), replace(pace, chunk=pace.chunk or DEVICE_CHUNK)
