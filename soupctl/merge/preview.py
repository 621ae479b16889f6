"""A preview of a job: sizes, memory, and the tensors that are not simply averaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction

from ..checkpoints.open import STREAM
from ..choices import Method
from ..format.dtypes import FLOATS, DType
from ..frozen import frozen
from ..kinds.kind import WEIGHT
from ..workers import require_room_to_compute
from .adapter_reader import AdapterReader
from .blocks.table import BlockRow, block_rows
from .destination import Destination
from .job import ComponentJob, Job
from .kept_sum.survey import least_sum_size
from .memory import memory_needed
from .memory_limit import MemoryNeed, fit_memory, free_disk
from .plan import Plan
from .step import Rule, Step


@frozen
class SpecialTensor:
    """A tensor that is not simply averaged in its own dtype, and the rule that applies to it."""

    tensor: str
    dtypes: tuple[str, ...]
    rule: str


@frozen
class ComponentPreview:
    """One component of a preview."""

    name: str
    files: tuple[str, ...]
    kept: int
    left_out: int
    dtypes: tuple[tuple[str, int], ...]
    """The number of tensors of each dtype in the soup."""
    special: tuple[SpecialTensor, ...]
    blocks: tuple[BlockRow, ...] = ()
    """The weights of the ingredients by block; empty if they are the same everywhere."""


@frozen
class Widened:
    """Dtypes of ingredients, the wider common dtype, and a dtype that is not wider than theirs."""

    dtypes: tuple[str, ...]
    out: str
    instead: str


@frozen
class Preview:
    """A preview of a job; sizes are in bytes."""

    output: str
    shares: tuple[tuple[str, Fraction, Fraction], ...]
    """Path, requested weight and share of each ingredient."""
    added: frozenset[int]
    """Which of them are deltas and adapters, whose weights are scales."""
    components: tuple[ComponentPreview, ...]
    method: Method
    widened: tuple[Widened, ...]
    """Mixed dtypes that become a wider one without being asked."""
    sum: tuple[int, int] | None
    """The usual range of bytes of the kept sum; None without one."""
    copies: tuple[str, ...]
    left_behind: tuple[str, ...]
    """Files in the inputs' folders that are not copied, by relative name."""
    read: int
    written: int
    memory: int
    """An upper estimate of anonymous memory, which does not include the system's cache of files."""
    threads: int
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    free_disk: int | None
    """None if unknown."""
    notes: tuple[str, ...] = ()
    """Remarks for the user, a sentence each."""


def preview(
    job: Job, threads: int | None = None, max_memory: int | None = None, reserved: int = 0
) -> Preview:
    """The preview of an open job, with as many of `threads` as `max_memory` bytes allow.

    If not even one fits, chunks are smaller. `reserved` bytes are used elsewhere. Raises LimitError
    if that is not enough, or if there is too little address space.
    """
    require_room_to_compute()
    plans = [component.plan for component in job.components]

    def need_of(chunk: int | None) -> MemoryNeed:
        need = memory_needed([job], chunk)
        return MemoryNeed(reserved + need.fixed, need.a_thread)

    fitted = fit_memory(need_of, threads, max_memory)
    return Preview(
        output=_shown(job.destination),
        shares=job.shares,
        # a method combines models, although the job has their weights as scales
        added=job.added if plans[0].method is None else frozenset(),
        components=tuple(map(_component, job.components)),
        method=job.components[0].method,
        widened=_widened(job.components),
        sum=_sum_size(plans) if job.keeps_sum else None,
        copies=tuple(name for name, _ in job.destination.companions.copies),
        left_behind=job.destination.companions.left_behind,
        read=sum(component.read for component in job.components),
        written=sum(component.written for component in job.components),
        memory=fitted.memory,
        threads=fitted.threads,
        chunk=fitted.chunk,
        free_disk=free_disk(job.destination.file),
        notes=job.notes,
    )


def _shown(destination: Destination) -> str:
    """The output as text."""
    if destination.address is not None:
        return destination.address.shown
    return str(destination.path or STREAM)


def _sum_size(plans: Sequence[Plan]) -> tuple[int, int]:
    """Bytes of sums if they fit F32, and if they fit F64; distant exponents take more."""
    least = least_sum_size(plans)
    return least, least * DType.F64.bits // DType.F32.bits


def _component(component: ComponentJob) -> ComponentPreview:
    plan = component.plan
    names = {step.name for step in plan.kept}
    # the tensors of the other ingredients are only digested
    steps = [step for step in plan.steps if step.out is not None or step.name not in names]
    # an adapter's own tensors are factors, of which no soup is made
    adapters = {n for n, each in enumerate(component.sources) if isinstance(each, AdapterReader)}
    steps = [step for step in steps if not adapters.issuperset(step.sources)]
    special = tuple(_special(step) for step in steps if _is_special(step))
    dtypes = Counter(dtype.value for _, dtype, _ in plan.written)
    return ComponentPreview(
        name=component.inputs.name,
        files=tuple(file.name for file in component.files.files),
        kept=len(plan.written),
        left_out=sum(step.rule is Rule.LEFT_OUT for step in steps),
        dtypes=tuple(sorted(dtypes.items())),
        special=() if component.sums else special,
        blocks=block_rows(
            component.draft.blocks,
            [entry.weights for entry in component.draft.ingredients],
            [step.name for step in plan.kept],
            component.added,
            normalize=component.draft.normalize,
        ),
    )


def _widened(components: Iterable[ComponentJob]) -> tuple[Widened, ...]:
    """The dtypes of tensors whose common dtype is wider than each of theirs."""
    found = {
        (frozenset(step.dtypes), step.out)
        for component in components
        if component.draft.asked_dtype is None and not component.sums
        if not component.draft.dtype_for
        for step in component.plan.kept
        if step.rule is Rule.AVERAGE and step.out is not None and step.out not in step.dtypes
        if not step.is_quantised
    }
    order = list(FLOATS)
    widened = []
    for dtypes, out in found:
        names = sorted(dtypes, key=order.index)
        # the last dtype has the widest range, so nothing overflows
        widened.append(Widened(tuple(each.value for each in names), out.value, names[-1].value))
    return tuple(sorted(widened, key=lambda each: each.dtypes))


def _is_special(step: Step) -> bool:
    if step.rule is Rule.READ:
        return False
    is_plain = step.rule is Rule.AVERAGE and len(set(step.dtypes)) == 1 and step.kind is WEIGHT
    return not is_plain or any(step.scales)


def _special(step: Step) -> SpecialTensor:
    mixed = step.rule is Rule.AVERAGE and step.out is not None
    rule = f"averaged into {step.out.value}" if mixed and step.out else step.rule.value
    rule = rule if step.kind is WEIGHT else f"{step.kind.text}: {rule}"
    if any(step.scales):
        rule = f"codes times scales, {rule}"
    return SpecialTensor(step.name, tuple(sorted({dtype.value for dtype in step.dtypes})), rule)
