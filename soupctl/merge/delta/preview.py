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
from .passes import ComponentDelta, DeltaJob
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
    steps = [step for each in job.components for step in each.plan.steps]
    kept = [step for each in job.components for step in each.plan.kept]
    fixed = reserved + BASELINE + NUMPY + A_STEP * len(steps)
    fixed += sum(input_bytes(opened) for each in job.components for opened in each.part.checkpoints)
    each = A_THREAD + 2 * A_TERM + max(map(_buffers, kept), default=0)
    if max_memory is not None:
        if fixed + each > max_memory:
            advice = f"one thread needs {fixed + each} bytes"
            raise LimitError(f"{max_memory} bytes of memory are not enough", advice=advice)
        threads = min(threads, (max_memory - fixed) // each)
    return DeltaPreview(
        read=job.read,
        written=sum(map(_fine_size, job.components)),
        memory=fixed + threads * each,
        threads=threads,
        free_disk=_free_disk(job.request.output),
        tensors=len(kept),
        left_out=len(steps) - len(kept),
    )


def _fine_size(delta: ComponentDelta) -> int:
    """Bytes that the compared tensors take in FINE."""
    tensors = delta.sources[1].tensors
    return sum(tensors[step.name].size for step in delta.plan.kept if step.name in tensors)


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
