"""Choosing the engine by the execution options; every engine gives the same bytes."""

from __future__ import annotations

from dataclasses import replace

from ..engines.contract import Engine
from ..workers import ExecutionOptions, require_room_to_compute

DEVICE_CHUNK = 1 << 19
"""Elements in a chunk for a device, where a cache helps little and each launch costs time."""


def engine_of(execution: ExecutionOptions) -> tuple[Engine, ExecutionOptions]:
    """The engine, and execution options adjusted to it.

    Raises LimitError for an unavailable device, and for too little address space.
    """
    require_room_to_compute()
    # imported late, because it loads numpy and LLVM: previews do not need them, and a failure to
    # load them must come before anything is written
    if execution.is_on_processor:
        from ..engines.cpu import CpuEngine

        return CpuEngine(), execution
    from ..engines.choice import open_engine

    return open_engine(execution.gpus, execution.staging), replace(
        execution, chunk=execution.chunk or DEVICE_CHUNK
    )
