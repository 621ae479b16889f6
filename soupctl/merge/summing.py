"""Carry out a plan in exact sums: from checkpoints and kept sums, to a soup and a sum to keep.

Rule 1: the form of each sum is found in a pass of its own, so that every place in its file is fixed
before the first byte of it is written.
Rule 2: the soup is rounded from the exact sum, so it is the soup that a plan without sums makes.
Rule 3: every byte of every source is digested in the pass that writes, while it is in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod

from ..checkpoints.digest import Row, root_of, tensor_hasher
from ..engines.contract import Blend, Engine, OutOfRange
from ..engines.planes import count_present, present
from ..errors import LimitError, OutputError
from ..format.dtypes import DType
from ..workers import ExecutionOptions, OrderedPool
from .executor import TASK_BYTES, Outcome, Write
from .findings import different, out_of_range
from .kept_sum.format import MOST_PLANES, NO_SUM, SumForm, copied_entry, plane_entries
from .kept_sum.reader import PLANE_BYTES, Buffer, Source, Summands, copied_part, digest_of
from .plan import Plan, Rule, Step

SINGLE_BYTES = DType.F32.bits // 8

Advance = Callable[[int], None]
"""Tells how many more bytes were read or written."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """A sum that is to be written."""

    forms: Mapping[str, SumForm]
    """Of each averaged tensor, as `survey` found them."""
    write: Write
    """Puts bytes at an offset within the sum's own tensor of that name."""


@dataclass(frozen=True, slots=True)
class Summed:
    """What a pass came to."""

    outcome: Outcome
    """For a kept sum among the sources, the digest of its own tensors."""
    kept: str | None
    """Content digest of the sum that was written."""


def survey(
    plan: Plan, sources: Sequence[Source], engine: Engine, execution: ExecutionOptions
) -> dict[str, SumForm]:
    """The form that the sum of each averaged tensor takes.

    Raises InputError for NaN or infinity, and LimitError for a sum that is not kept.
    """
    work = _Work(plan, sources, engine, execution)
    steps = [step for step in plan.steps if step.rule is Rule.AVERAGE]
    line: OrderedPool[list[Step], list[tuple[str, SumForm]]] = OrderedPool(
        lambda task: [(step.name, work.form(step, line.advance)) for step in task], execution
    )
    return dict(chain.from_iterable(line.results(_tasks(steps))))


def execute_sums(
    plan: Plan,
    sources: Sequence[Source],
    engine: Engine,
    write: Write,
    execution: ExecutionOptions,
    keeping: Keeping | None = None,
) -> Summed:
    """Make the plan's tensors and hand them to `write`, and with `keeping` their sums.

    Raises what `execute` does, and LedgerError for a kept sum that is not sound.
    """
    work = _Work(plan, sources, engine, execution)
    line: OrderedPool[list[Step], list[_Found]] = OrderedPool(
        lambda task: [work.make(step, write, keeping, line.advance) for step in task], execution
    )
    read: list[list[Row]] = [[] for _ in sources]
    soup: list[Row] = []
    kept: list[Row] = []
    taken = []
    for found in chain.from_iterable(line.results(_tasks(plan.steps))):
        for source, rows in found.sources:
            read[source] += rows
        soup += found.soup
        kept += found.kept
        taken += found.taken
    roots = (digest_of(source) or root_of(rows) for source, rows in zip(sources, read, strict=True))
    outcome = Outcome(tuple(roots), root_of(soup), tuple(taken))
    return Summed(outcome, root_of(kept) if keeping else None)


def _tasks(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """The steps in order, neighbours of small size together."""
    task: list[Step] = []
    count = 0
    for step in steps:
        task.append(step)
        count += prod(step.shape) * len(step.sources)
        if count >= TASK_BYTES // PLANE_BYTES:
            yield task
            task, count = [], 0
    yield task


@dataclass(slots=True)
class _Found:
    """What became of one step: rows for the roots of everything that was read and written."""

    sources: list[tuple[int, list[Row]]] = field(default_factory=list)
    soup: list[Row] = field(default_factory=list)
    kept: list[Row] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Work:
    """What all threads share."""

    plan: Plan
    sources: Sequence[Source]
    engine: Engine
    execution: ExecutionOptions

    def form(self, step: Step, advance: Advance) -> SumForm:
        """The form that the sum of one tensor takes."""
        summands = Summands(step, self.plan, self.sources, self.engine)
        chunks = summands.chunks(self.execution.chunk, SINGLE_BYTES)
        plane, narrow = Buffer(chunks.size, PLANE_BYTES), Buffer(chunks.size, SINGLE_BYTES)
        single = True
        rest: list[int] = []
        for start, stop in chunks:
            first = plane.of(stop - start)
            others = summands.expand(start, stop, first)
            # once it is known not to be single, nothing is narrowed any more
            single = single and not others
            single = single and self.engine.narrow(first, narrow.of(stop - start))
            rest += [0] * (len(others) - len(rest))
            for index, other in enumerate(others):
                rest[index] += count_present(other)
            advance((stop - start) * summands.width)
        if len(rest) >= MOST_PLANES:
            problem = f"its sum takes more than {MOST_PLANES} planes of F64, and is not kept"
            raise LimitError(problem, tensor=step.name, advice=NO_SUM)
        return SumForm(DType.F32 if single else DType.F64, tuple(rest))

    def make(self, step: Step, write: Write, keeping: Keeping | None, advance: Advance) -> _Found:
        """Write one tensor and its sum."""
        if step.rule is Rule.AVERAGE:
            return self._average(step, write, keeping, advance)
        return self._copy(step, write, keeping, advance)

    def _average(
        self, step: Step, write: Write, keeping: Keeping | None, advance: Advance
    ) -> _Found:
        assert step.out is not None
        summands = Summands(step, self.plan, self.sources, self.engine)
        width = step.out.bits // 8
        combine = summands.rounding() if keeping is None else None
        chunks = summands.chunks(self.execution.chunk, width)
        # in one pass, no sum is put anywhere
        plane = Buffer(chunks.size if combine is None else 0, PLANE_BYTES)
        result = Buffer(chunks.size, width)
        soup = tensor_hasher()
        planes = None if keeping is None else _Planes(step, keeping, self.engine, chunks.size)
        for start, stop in chunks:
            first, out = plane.of(stop - start), result.of(stop - start)
            if combine is not None:
                combine(start, stop, out)
            else:
                others = summands.expand(start, stop, first)
                self._round(step, [first, *others], start, out)
            write(step.name, start * width, out)
            soup.update(out)
            if planes is not None:
                planes.write(start, first, others)
            summands.digest(start, stop)
            advance((stop - start) * (summands.width + width))
        found = _Found(summands.rows(), [(step.name, step.out.value, step.shape, soup.hexdigest())])
        found.kept = [] if planes is None else planes.rows()
        return found

    def _round(self, step: Step, planes: list[memoryview], start: int, out: memoryview) -> None:
        """Divide exact sums by the total weight and round them."""
        assert step.out is not None
        dtypes, weights = (DType.F64,) * len(planes), (1,) * len(planes)
        blend = Blend(dtypes, weights, step.out, divisor=self.plan.total)
        try:
            self.engine.prepare(blend, planes)(0, len(planes[0]) // PLANE_BYTES, out)
        except OutOfRange as found:
            raise out_of_range(step, start + found.element) from None

    def _copy(self, step: Step, write: Write, keeping: Keeping | None, advance: Advance) -> _Found:
        """Digest a tensor that is not averaged, and copy it if it is in the soup."""
        found = _Found()
        digests = {}
        for source in step.sources:
            part, view = copied_part(self.sources[source], step.name)
            hasher = tensor_hasher()
            for offset in range(0, len(view), TASK_BYTES):
                piece = view[offset : offset + TASK_BYTES]
                hasher.update(piece)
                if step.out is not None and source == step.sources[0]:
                    write(step.name, offset, piece)
                    if keeping is not None:
                        name, _, _ = copied_entry(step.name, step.out, step.shape)
                        keeping.write(name, offset, piece)
                advance(len(piece))
            digests[source] = hasher.hexdigest()
            row = (part.name, part.dtype.value, part.shape, digests[source])
            found.sources.append((source, [row]))
        if step.out is None:
            return found
        digest = digests[step.sources[0]]
        others = [source for source in step.sources if digests[source] != digest]
        if others and step.rule is Rule.IDENTICAL:
            shown = [self.sources[source].shown for source in others]
            raise different(step, self.sources[step.sources[0]].shown, shown)
        found.taken = [step.name] if others else []
        found.soup = [(step.name, step.out.value, step.shape, digest)]
        if keeping is not None:
            name, dtype, shape = copied_entry(step.name, step.out, step.shape)
            found.kept = [(name, dtype.value, shape, digest)]
        return found


class _Planes:
    """The tensors that the sum of one tensor is written to, chunk by chunk and in order."""

    def __init__(self, step: Step, keeping: Keeping, engine: Engine, most: int) -> None:
        self._name = step.name
        self._form = keeping.forms[step.name]
        self._write = keeping.write
        self._engine = engine
        self._single = Buffer(most if self._form.first is DType.F32 else 0, SINGLE_BYTES)
        self._entries = {
            entry[0].partition(":")[0]: entry
            for entry in plane_entries(step.name, step.shape, self._form)
        }
        self._sizes = {
            mark: prod(shape) * dtype.bits // 8 for mark, (_, dtype, shape) in self._entries.items()
        }
        self._hashers = {mark: tensor_hasher() for mark in self._entries}
        self._offsets = dict.fromkeys(self._entries, 0)

    def write(self, start: int, first: memoryview, others: Sequence[memoryview]) -> None:
        """Append the planes of elements from `start` on."""
        if self._form.first is DType.F32:
            narrow = self._single.of(len(first) // PLANE_BYTES)
            self._require(self._engine.narrow(first, narrow))
            self._append("0", narrow)
        else:
            self._append("0", first)
        self._require(len(others) <= len(self._form.rest))
        # a chunk may need fewer planes than the tensor
        zeros = [memoryview(bytes(len(first)))] * (len(self._form.rest) - len(others))
        rest = [*others, *zeros]
        for number, plane in enumerate(rest, 1):
            if f"{number}" in self._entries:
                self._append(f"{number}", plane)
            else:
                places, values = present(plane, start, self._entries[f"{number}i"][1])
                self._append(f"{number}i", places)
                self._append(f"{number}v", values)

    def _append(self, mark: str, data: memoryview) -> None:
        self._require(self._offsets[mark] + len(data) <= self._sizes[mark])
        self._write(self._entries[mark][0], self._offsets[mark], data)
        self._hashers[mark].update(data)
        self._offsets[mark] += len(data)

    def _require(self, fits: bool) -> None:
        """Raise OutputError for a sum that does not fit the form which it was found to take."""
        if not fits:
            raise OutputError("an input was changed while it was read", tensor=self._name)

    def rows(self) -> list[Row]:
        """What was written, for the root of the sum; OutputError if that is not all of it."""
        self._require(self._offsets == self._sizes)
        return [
            (name, dtype.value, shape, self._hashers[mark].hexdigest())
            for mark, (name, dtype, shape) in self._entries.items()
        ]
