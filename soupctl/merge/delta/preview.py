"""A preview of making a delta: sizes and memory, from headers alone."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ...checkpoints.open import STREAM
from ...errors import LimitError
from ...frozen import frozen
from ...storage.files import free_space
from ...workers import ExecutionOptions
from ..chunks import chunk_elements
from ..memory import (
    A_STEP,
    A_TERM,
    A_THREAD,
    BASELINE,
    NUMPY,
    MemoryNeed,
    input_bytes,
    within,
)
from ..step import Step
from .passes import ComponentDelta, DeltaJob
from .survey import WORK

A_DIFFERENCE = 1600
"""What is found of one tensor and written of it: rows, form, facts and header; measured."""
A_NAME_LETTER = 12
"""Copies of each character of its name."""


@frozen
class DeltaPreview:
    """A preview of a delta; sizes are in bytes."""

    read: int
    written: int
    """The usual upper limit: all differences in FINE's dtypes."""
    memory: int
    """An upper estimate of anonymous memory, which does not include the system's cache of files."""
    threads: int
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    free_disk: int | None
    """None if unknown."""
    tensors: int
    """The number of tensors that are compared."""
    left_out: int


def preview_delta(
    job: DeltaJob, threads: int | None = None, max_memory: int | None = None, reserved: int = 0
) -> DeltaPreview:
    """The preview of an open job, with as many of `threads` as `max_memory` bytes allow.

    If not even one fits, chunks are smaller. `reserved` bytes are used elsewhere. Raises LimitError
    if that is not enough.
    """
    threads = threads or ExecutionOptions().threads
    steps = [step for each in job.components for step in each.plan.steps]
    kept = [step for each in job.components for step in each.plan.kept]
    fixed = reserved + BASELINE + NUMPY + A_STEP * len(steps)
    fixed += sum(A_DIFFERENCE + A_NAME_LETTER * len(step.name) for step in kept)
    fixed += sum(input_bytes(opened) for each in job.components for opened in each.part.checkpoints)

    def need_of(chunk: int | None) -> MemoryNeed:
        buffers = max((_buffers(step, chunk) for step in kept), default=0)
        return MemoryNeed(fixed, A_THREAD + 2 * A_TERM + buffers)

    chunk = None
    if max_memory is None:
        need = need_of(None)
    else:
        threads, chunk, need = within(max_memory, threads, need_of)
        if need.with_threads(threads) > max_memory:
            needed = need.with_threads(1)
            advice = f"one thread needs {needed} bytes: --max-memory {needed} allows them"
            raise LimitError(f"{max_memory} bytes of memory are not enough", advice=advice)
    return DeltaPreview(
        read=job.read,
        written=sum(map(_fine_size, job.components)),
        memory=need.with_threads(threads),
        threads=threads,
        chunk=chunk,
        free_disk=_free_disk(job.request.output),
        tensors=len(kept),
        left_out=len(steps) - len(kept),
    )


def _fine_size(delta: ComponentDelta) -> int:
    """Bytes that the compared tensors take in FINE."""
    tensors = delta.sources[1].tensors
    return sum(tensors[step.name].size for step in delta.plan.kept if step.name in tensors)


def _buffers(step: Step, chunk: int | None) -> int:
    """Bytes that a thread reads into and computes in, for one tensor."""
    width = sum(dtype.bits for dtype in step.dtypes) // 8
    elements = min(prod(step.shape), chunk or chunk_elements(width + WORK))
    return elements * (width + WORK)


def _free_disk(output: str | Path) -> int | None:
    if output == STREAM:
        return None
    try:
        return free_space(Path(output).parent)
    except OSError:
        return None
