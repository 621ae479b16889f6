"""What a job will do, before it does it: sizes, memory, and which tensors are odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path

from ..checkpoints.open import STREAM
from ..choices import Method
from ..errors import LimitError
from ..format.dtypes import DType
from ..storage.files import free_space
from ..workers import ExecutionOptions
from .executor import memory_needed
from .job import Job, Work
from .plan import Plan, Rule, Step


@dataclass(frozen=True, slots=True)
class SpecialTensor:
    """A tensor that is not simply averaged in its own dtype, and the rule that applies to it."""

    tensor: str
    dtypes: tuple[str, ...]
    rule: str


@dataclass(frozen=True, slots=True)
class Outline:
    """One component of a preview."""

    name: str
    files: tuple[str, ...]
    kept: int
    left_out: int
    dtypes: tuple[tuple[str, int], ...]
    """How many tensors of the soup have which dtype."""
    odd: tuple[SpecialTensor, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a job will do; sizes in bytes."""

    output: str
    shares: tuple[tuple[str, Fraction, Fraction], ...]
    """Path, asked weight and share of the soup of each ingredient."""
    components: tuple[Outline, ...]
    way: Method
    sum: tuple[int, int] | None
    """Bytes of the sum that is kept, if one is: as a rule between these."""
    copies: tuple[str, ...]
    left_behind: tuple[str, ...]
    """What lies beside the inputs' weights and does not go along, by relative name."""
    read: int
    written: int
    memory: int
    """An upper estimate of anonymous memory; mapped input files are not in it."""
    threads: int
    free_disk: int | None
    """None where it cannot be known."""


def preview(
    job: Job, threads: int | None = None, max_memory: int | None = None, beside: int = 0
) -> Preview:
    """The preview of an open job, with as many of `threads` as `max_memory` bytes allow.

    `beside` bytes are taken by something else. Raises LimitError if not even one thread fits.
    """
    total = sum(weight for _, weight in job.weights)
    plans = [work.plan for work in job.works]
    threads = threads or ExecutionOptions().threads
    while max_memory is not None and beside + memory_needed(plans, threads) > max_memory:
        threads -= 1
        if not threads:
            needed = beside + memory_needed(plans, 1)
            raise LimitError(
                f"--max-memory {max_memory} is not enough",
                advice=f"one thread needs {needed} bytes",
            )
    return Preview(
        output=str(job.destination.path or STREAM),
        shares=tuple((shown, weight, weight / total) for shown, weight in job.weights),
        components=tuple(map(_outline, job.works)),
        way=job.works[0].way,
        sum=_sum_size(plans) if job.keeps else None,
        copies=tuple(name for name, _ in job.destination.beside.copies),
        left_behind=job.destination.beside.left_behind,
        read=sum(work.read for work in job.works),
        written=sum(work.written for work in job.works),
        memory=beside + memory_needed(plans, threads),
        threads=threads,
        free_disk=_free_disk(job.destination.path),
    )


def _sum_size(plans: Sequence[Plan]) -> tuple[int, int]:
    """Bytes of sums that fit F32, and of such that fit F64; those of far exponents take more."""
    averaged = [
        prod(step.shape) for plan in plans for step in plan.kept if step.rule is Rule.AVERAGE
    ]
    return sum(averaged) * DType.F32.bits // 8, sum(averaged) * DType.F64.bits // 8


def _outline(work: Work) -> Outline:
    plan = work.plan
    dtypes = Counter(step.out.value for step in plan.kept if step.out is not None)
    return Outline(
        name=work.part.name,
        files=tuple(file.name for file in work.share.files),
        kept=len(plan.kept),
        left_out=len(plan.steps) - len(plan.kept),
        dtypes=tuple(sorted(dtypes.items())),
        odd=() if work.sums else tuple(_odd(step) for step in plan.steps if _is_odd(step)),
    )


def _is_odd(step: Step) -> bool:
    return step.rule is not Rule.AVERAGE or len(set(step.dtypes)) > 1


def _odd(step: Step) -> SpecialTensor:
    mixed = step.rule is Rule.AVERAGE and step.out is not None
    rule = f"averaged into {step.out.value}" if mixed and step.out else step.rule.value
    return SpecialTensor(step.name, tuple(sorted({dtype.value for dtype in step.dtypes})), rule)


def _free_disk(output: Path | None) -> int | None:
    if output is None:
        return None
    try:
        return free_space(output.parent)
    except OSError:
        return None
