"""Finding the form of the sum of each tensor, in a separate pass, which reads some or all of it.

Rule 1: all offsets in the sum's file are fixed before its first byte is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import chain
from math import prod

from ...checkpoints.checkpoint import Checkpoint
from ...engines.contract import Engine
from ...format.header import Tensor, encode_header, lay_out
from ...frozen import frozen
from ...workers import Advance, ExecutionOptions, Scratch, run_in_order, tasks
from ..chunks import PLANE_BYTES, SINGLE_BYTES, chunk_elements, ranges
from ..plan import Plan
from ..scale_values import read_scales
from ..shared_content import as_read
from ..step import Rule, Step
from ..terms import allot, bytes_an_element, terms_of
from ..updates import updates_of
from ..weighted_sum import WeightedSum
from .format import SumForm, TensorSpec, copied_entry, plane_entries
from .forms import SAMPLE, FormFinder, SumForms, expected_form
from .reader import Source


def survey(
    plan: Plan, sources: Sequence[Source], engine: Engine, execution: ExecutionOptions
) -> dict[str, SumForm]:
    """The form of the sum of each averaged tensor.

    Raises InputError for NaN or infinity, and LimitError for a sum that cannot be kept.
    """
    found = _SumPass(plan, as_read(sources), engine, execution.chunk)
    return dict(found.run(execution, may_expect=False).of)


def expect_forms(
    plan: Plan, sources: Sequence[Source], engine: Engine, execution: ExecutionOptions
) -> SumForms:
    """The form of each sum; for large tensors of at most 16 bits, expected from some elements."""
    found = _SumPass(plan, as_read(sources), engine, execution.chunk)
    return found.run(execution, may_expect=True)


def is_expected(step: Step, sources: Sequence[Source]) -> bool:
    """Whether some elements of a step's tensor are enough to expect the form of its sum."""
    return (
        step.rule is Rule.AVERAGE
        and not step.scales
        and prod(step.shape) > SAMPLE
        and all(dtype.bits <= MOST_BITS for dtype in step.dtypes)
        and all(isinstance(sources[source], Checkpoint) for source in step.sources)
    )


MOST_BITS = 16
"""Bits of an element of which sums usually take one plane."""


@frozen
class _SumPass:
    """A pass over the sources of a plan."""

    plan: Plan
    sources: Sequence[Source]
    """The sources of the plan; of those of equal content, the same one."""
    engine: Engine
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    scratch: Scratch = field(default_factory=Scratch)

    def run(self, execution: ExecutionOptions, *, may_expect: bool) -> SumForms:
        """The form of each averaged tensor; not all of it is read if that `may_expect` it."""

        def forms(task: Sequence[Step], advance: Advance) -> list[tuple[str, SumForm, bool]]:
            return [self._form_of(step, advance, may_expect=may_expect) for step in task]

        averaged = (step for step in self.plan.steps if step.rule is Rule.AVERAGE)
        found = [*chain.from_iterable(run_in_order(forms, tasks(averaged, self._size), execution))]
        return SumForms(
            {name: form for name, form, _ in found},
            frozenset(name for name, _, expected in found if expected),
        )

    def _size(self, step: Step) -> int:
        return sum(self.sources[source].tensors[step.name].size for source in step.sources)

    def _form_of(
        self, step: Step, advance: Advance, *, may_expect: bool
    ) -> tuple[str, SumForm, bool]:
        """The name of a tensor, the form of its sum, and whether that is only expected."""
        count = prod(step.shape)
        if may_expect and is_expected(step, self.sources):
            for planes, _ in self._chunks(step, advance, SAMPLE, SAMPLE):
                form = expected_form(planes[0], count, step.dtypes)
                if form is not None and len(planes) == 1:
                    return step.name, form, True
        finder = FormFinder(step.name, self.engine)
        for planes, narrowed in self._chunks(step, advance, count, self.chunk):
            finder.add(planes, narrowed)
        return step.name, finder.form(), False

    def _chunks(
        self, step: Step, advance: Advance, count: int, chunk: int | None
    ) -> Iterator[tuple[list[memoryview], memoryview]]:
        """The planes of the first `count` elements, and memory for one narrowed to F32.

        `chunk` is the number of elements in a chunk, None to fit the cache.
        """
        sources = [self.sources[source] for source in step.sources]
        found = {source: terms_of(source, step.name, step.shape) for source in sources}
        terms = [found[source] for source in sources]
        every = [term for each in found.values() for term in each]
        memory = bytes_an_element(every) + PLANE_BYTES + SINGLE_BYTES
        chunk = min(count, chunk or chunk_elements(memory))
        plane, narrow = allot(self.scratch, every, chunk, PLANE_BYTES, SINGLE_BYTES)
        scales = read_scales(step, sources)
        updates = updates_of(sources, step)
        summed = WeightedSum(self.plan, step, self.engine, terms, scales, updates)
        planes = summed.prepare_planes()
        for start, stop in ranges(count, chunk):
            moved = sum(term.read(start, stop) for term in every)
            first = plane[: (stop - start) * PLANE_BYTES]
            yield [first, *planes(start, stop, first)], narrow[: (stop - start) * SINGLE_BYTES]
            advance(moved)


def least_sum_size(plans: Iterable[Plan]) -> int:
    """Bytes of the sums of these plans if they fit F32, without headers and what is copied."""
    steps = (step for plan in plans for step in plan.kept if step.rule is Rule.AVERAGE)
    return sum(prod(step.shape) for step in steps) * SINGLE_BYTES


@frozen
class SumLayout:
    """The layout of the file for the sum of one component."""

    component: str
    forms: SumForms
    tensors: tuple[Tensor, ...]
    header: int
    """Bytes that its header takes."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.header + (self.tensors[-1].stop if self.tensors else 0)


def lay_out_sum(component: str, plan: Plan, forms: SumForms, draft: Mapping[str, str]) -> SumLayout:
    """The place of each tensor of a sum; `draft` takes at least as many bytes as the metadata."""
    entries: list[TensorSpec] = []
    for step in plan.kept:
        if step.rule is Rule.AVERAGE:
            entries += plane_entries(step.name, step.shape, forms.of[step.name])
        elif step.out is not None:
            entries.append(copied_entry(step.name, step.out, step.shape))
    tensors = lay_out(entries)
    return SumLayout(component, forms, tensors, len(encode_header(tensors, draft)))
