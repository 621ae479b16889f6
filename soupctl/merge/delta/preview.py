"""A preview of making a delta: sizes and memory, from headers alone."""

from __future__ import annotations

from math import prod

from ...frozen import frozen
from ..chunks import chunk_elements
from ..memory import (
    A_STEP,
    A_TERM,
    A_THREAD,
    BASELINE,
    NUMPY,
    input_bytes,
)
from ..memory_limit import MemoryNeed, fit_memory, free_disk
from ..step import Step
from .passes import ComponentDelta, DeltaJob
from .survey import WORK

A_DIFFERENCE = 1600
"""Memory for the rows, form, facts and header of one tensor; measured."""
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
    steps = [step for each in job.components for step in each.plan.steps]
    kept = [step for each in job.components for step in each.plan.kept]
    fixed = reserved + BASELINE + NUMPY + A_STEP * len(steps)
    fixed += sum(A_DIFFERENCE + A_NAME_LETTER * len(step.name) for step in kept)
    fixed += sum(
        input_bytes(opened) for each in job.components for opened in each.inputs.checkpoints
    )

    def need_of(chunk: int | None) -> MemoryNeed:
        buffers = max((_buffers(step, chunk) for step in kept), default=0)
        return MemoryNeed(fixed, A_THREAD + 2 * A_TERM + buffers)

    fitted = fit_memory(need_of, threads, max_memory)
    return DeltaPreview(
        read=job.read,
        written=sum(map(_fine_size, job.components)),
        memory=fitted.memory,
        threads=fitted.threads,
        chunk=fitted.chunk,
        free_disk=free_disk(job.request.output),
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
