"""Finding the form of the sum of each tensor, in a separate pass.

Rule 1: all offsets in the sum's file are fixed before its first byte is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

from ...engines.contract import Engine
from ...engines.planes import count_present
from ...errors import LimitError
from ...format.dtypes import DType
from ...format.header import Tensor, encode_header, lay_out
from ...workers import Advance, ExecutionOptions, Scratch, run_in_order, tasks
from ..chunks import PLANE_BYTES, SINGLE_BYTES, chunk_elements, ranges
from ..plan import Plan
from ..scale_values import read_scales
from ..step import Rule, Step
from ..terms import allot, bytes_an_element, terms_of
from ..weighted_sum import WeightedSum
from .format import MOST_PLANES, NO_SUM, SumForm, TensorSpec, copied_entry, plane_entries
from .reader import Source


def survey(
    plan: Plan, sources: Sequence[Source], engine: Engine, execution: ExecutionOptions
) -> dict[str, SumForm]:
    """The form of the sum of each averaged tensor.

    Raises InputError for NaN or infinity, and LimitError for a sum that cannot be kept.
    """
    scratch = Scratch()

    def forms(task: Sequence[Step], advance: Advance) -> list[tuple[str, SumForm]]:
        return [
            (step.name, _form(step, plan, sources, engine, execution.chunk, scratch, advance))
            for step in task
        ]

    def size(step: Step) -> int:
        return sum(sources[source].tensors[step.name].size for source in step.sources)

    averaged = (step for step in plan.steps if step.rule is Rule.AVERAGE)
    return dict(chain.from_iterable(run_in_order(forms, tasks(averaged, size), execution)))


def _form(
    step: Step,
    plan: Plan,
    sources: Sequence[Source],
    engine: Engine,
    chunk_size: int | None,
    scratch: Scratch,
    advance: Advance,
) -> SumForm:
    """The form of the sum of one tensor, in chunks of `chunk_size` elements if that is given."""
    count = prod(step.shape)
    terms = [terms_of(sources[source], step.name, step.shape) for source in step.sources]
    every = [term for each in terms for term in each]
    memory = bytes_an_element(every) + PLANE_BYTES + SINGLE_BYTES
    chunk = min(count, chunk_size or chunk_elements(memory))
    plane, narrow = allot(scratch, every, chunk, PLANE_BYTES, SINGLE_BYTES)
    scales = read_scales(step, [sources[source] for source in step.sources])
    planes = WeightedSum(plan, step, engine, terms, scales).prepare_planes()
    is_single = True
    rest: list[int] = []
    for start, stop in ranges(count, chunk):
        moved = sum(term.read(start, stop) for term in every)
        first = plane[: (stop - start) * PLANE_BYTES]
        others = planes(start, stop, first)
        # once a sum is known not to fit one plane, its range is not needed
        is_single = is_single and not others
        is_single = is_single and engine.narrow(first, narrow[: (stop - start) * SINGLE_BYTES])
        rest += [0] * (len(others) - len(rest))
        for index, other in enumerate(others):
            rest[index] += count_present(other)
        advance(moved)
    if len(rest) >= MOST_PLANES:
        problem = f"its sum takes more than {MOST_PLANES} planes of F64 and cannot be kept"
        raise LimitError(problem, tensor=step.name, advice=NO_SUM)
    return SumForm(DType.F32 if is_single else DType.F64, tuple(rest))


def least_sum_size(plans: Iterable[Plan]) -> int:
    """Bytes of the sums of these plans if they fit F32, without headers and what is copied."""
    steps = (step for plan in plans for step in plan.kept if step.rule is Rule.AVERAGE)
    return sum(prod(step.shape) for step in steps) * SINGLE_BYTES


@dataclass(frozen=True, slots=True)
class SumLayout:
    """The layout of the file for the sum of one component."""

    component: str
    forms: Mapping[str, SumForm]
    """The form of the sum of each averaged tensor."""
    tensors: tuple[Tensor, ...]
    header: int
    """Bytes that its header takes."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.header + (self.tensors[-1].stop if self.tensors else 0)


def lay_out_sum(
    component: str, plan: Plan, forms: Mapping[str, SumForm], draft: Mapping[str, str]
) -> SumLayout:
    """The place of each tensor of a sum; `draft` takes at least as many bytes as the metadata."""
    entries: list[TensorSpec] = []
    for step in plan.kept:
        if step.rule is Rule.AVERAGE:
            entries += plane_entries(step.name, step.shape, forms[step.name])
        elif step.out is not None:
            entries.append(copied_entry(step.name, step.out, step.shape))
    tensors = lay_out(entries)
    return SumLayout(component, forms, tensors, len(encode_header(tensors, draft)))
