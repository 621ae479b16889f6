"""A preview of making a delta: sizes and memory, from headers alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from ...checkpoints.open import STREAM
from ...errors import LimitError
from ...storage.files import free_space
from ...workers import ExecutionOptions
from ..chunks import chunk_elements
from ..memory import A_STEP, A_TERM, A_THREAD, BASELINE, NUMPY, input_bytes
from ..step import Step
from .passes import DeltaJob
from .survey import WORK


@dataclass(frozen=True, slots=True)
class DeltaPreview:
    """A preview of a delta; sizes are in bytes."""

    read: int
    written: int
    """The usual upper limit: all differences in FINE's dtypes."""
    memory: int
    """An upper estimate of anonymous memory, which does not include the system's cache of files."""
    threads: int
    free_disk: int | None
    """None if unknown."""
    tensors: int
    """The number of tensors that are compared."""
    left_out: int


def preview_delta(
    job: DeltaJob, threads: int | None = None, max_memory: int | None = None, reserved: int = 0
) -> DeltaPreview:
    """The preview of an open job, with as many of `threads` as `max_memory` bytes allow.

    `reserved` bytes are used elsewhere. Raises LimitError if not even one thread fits.
    """
    threads = threads or ExecutionOptions().threads
    fixed = reserved + BASELINE + NUMPY + A_STEP * len(job.plan.steps)
    fixed += sum(map(input_bytes, job.part.checkpoints))
    each = A_THREAD + 2 * A_TERM + max(map(_buffers, job.plan.kept), default=0)
    if max_memory is not None:
        if fixed + each > max_memory:
            advice = f"one thread needs {fixed + each} bytes"
            raise LimitError(f"{max_memory} bytes of memory are not enough", advice=advice)
        threads = min(threads, (max_memory - fixed) // each)
    _, fine = job.sources
    kept = job.plan.kept
    return DeltaPreview(
        read=job.read,
        written=sum(fine.tensors[step.name].size for step in kept if step.name in fine.tensors),
        memory=fixed + threads * each,
        threads=threads,
        free_disk=_free_disk(job.request.output),
        tensors=len(kept),
        left_out=len(job.plan.steps) - len(kept),
    )


def _buffers(step: Step) -> int:
    """Bytes that a thread reads into and computes in, for one tensor."""
    width = sum(dtype.bits for dtype in step.dtypes) // 8
    chunk = min(prod(step.shape), chunk_elements(width + WORK))
    return chunk * (width + WORK)


def _free_disk(output: str | Path) -> int | None:
    if output == STREAM:
        return None
    try:
        return free_space(Path(output).parent)
    except OSError:
        return None
