"""Subtract a base from a fine-tuned checkpoint: open, survey, write.

Rule 1: a `DeltaRequest` holds all that decides the delta's bytes; threads, chunks and device are
`ExecutionOptions`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

from ...checkpoints.digest import Row, root_of, text_digest
from ...checkpoints.open import STREAM
from ...engines.contract import Engine
from ...errors import MismatchError, OutputError, UsageError
from ...format.header import encode_header, lay_out
from ...format.shards import OutputFile
from ...ledger.ledger import DELTA_KEY, LEDGER_KEY, Ledger
from ...ledger.ledger_json import encode_ledger, require_readable
from ...storage.lock import locked
from ...workers import Advance, ExecutionOptions, Scratch, run_in_order, tasks
from ..aligned import Alignment, align
from ..companion_files import CompanionFiles
from ..destination import (
    FOREIGN,
    ComponentFiles,
    Destination,
    refuse_input_as_output,
)
from ..engine import engine_of
from ..facts import facts_of_source
from ..ingredients import Ingredient, Inputs, Part, open_inputs
from ..kept_sum.reader import Source, copied_tensor
from ..new_ledger import agreed_metadata, ingredient_names
from ..output import OutputWriter, open_output
from ..plan import Plan, Step, make_plan
from ..recipe import Recipe, require_matches, selector
from .format import DeltaFacts, DeltaForm, TensorSpec, encode_facts, part_entries
from .record import Selection, draft_delta
from .survey import DeltaSurvey, DifferencePass, Finding
from .writer import DifferenceWriter


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A delta to make: everything that decides its bytes, and its output."""

    fine: str | Path
    base: str | Path
    output: str | Path
    """A file, or `-` for standard output."""
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    allow_nonfinite: bool = False
    """Whether tensors that hold NaN or infinity are kept whole."""
    component: str | None = None
    variant: str | None = None
    ignore_ledger: bool = False


@dataclass(frozen=True, slots=True)
class DeltaResult:
    """A finished delta."""

    ledger: Ledger
    changed: int
    """Tensors that it holds differences of."""
    whole: int
    """Tensors of FINE that it keeps whole."""
    equal: int
    """Tensors that are the same in both, and left out."""
    read: int
    """Bytes of tensor data read."""
    written: int
    """Bytes of tensor data written."""


@dataclass(frozen=True, slots=True)
class DeltaJob:
    """A delta that is ready to be made, its inputs open."""

    request: DeltaRequest
    inputs: Inputs
    part: Part
    """BASE and FINE."""
    alignment: Alignment
    plan: Plan
    names: tuple[str, ...]
    """How the ledger calls them."""

    @property
    def sources(self) -> tuple[Source, Source]:
        """BASE and FINE under the names of BASE."""
        base, fine = self.alignment.sources
        return base, fine

    @property
    def read(self) -> int:
        """Bytes that will be read: what differs, three times."""
        return 3 * sum(checkpoint.data_size for checkpoint in self.part.checkpoints)


def make_delta(
    request: DeltaRequest, *, force: bool = False, execution: ExecutionOptions | None = None
) -> DeltaResult:
    """Write FINE - BASE as a delta and return its result; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_delta_job(request) as job:
        return subtract_base(job, force=force, execution=execution)


@contextmanager
def open_delta_job(request: DeltaRequest) -> Iterator[DeltaJob]:
    """The request with both checkpoints opened and found to fit each other.

    Raises MismatchError for names, shapes or kinds that do not, and for quantised weights.
    """
    recipe = Recipe(
        weights=(Fraction(1), Fraction(1)), keys=request.keys, excludes=request.excludes
    )
    if Path(request.output).suffix.lower() in FOREIGN:
        what = f"a {Path(request.output).suffix} file holds no safetensors"
        raise UsageError(what, path=request.output, advice="name a .safetensors file")
    with open_inputs(
        [Ingredient(request.base), Ingredient(request.fine)],
        component=request.component,
        variant=request.variant,
        ignore_ledger=request.ignore_ledger,
    ) as inputs:
        if len(inputs.parts) > 1:
            what = f"has {len(inputs.parts)} components, and a delta is of one"
            raise UsageError(what, path=request.fine, advice="--component picks one")
        (part,) = inputs.parts
        if recipe.keys or recipe.excludes:
            require_matches(recipe, {name for each in part.checkpoints for name in each.tensors})
        alignment = align(part.checkpoints, selector(recipe))
        plan = make_plan(
            recipe,
            [source.label for source in alignment.sources],
            [source.tensors for source in alignment.sources],
            facts=[facts_of_source(source) for source in alignment.sources],
        )
        _require_no_codes(plan, alignment)
        yield DeltaJob(request, inputs, part, alignment, plan, ingredient_names(inputs))


def _require_no_codes(plan: Plan, alignment: Alignment) -> None:
    """Raise MismatchError for quantised weights: a sum would have to be rounded to codes."""
    for step in plan.kept:
        for source, scale in zip(step.sources, step.scales, strict=False):
            if scale is not None:
                what = "is quantised, and its codes have no exact difference"
                label = alignment.sources[source].label
                advice = "make the delta before quantising"
                raise MismatchError(what, path=label, tensor=step.name, advice=advice)


def subtract_base(
    job: DeltaJob, *, force: bool = False, execution: ExecutionOptions | None = None
) -> DeltaResult:
    """Carry out a job; raises as `make_delta` does."""
    engine, execution = engine_of(execution or ExecutionOptions())
    output = job.request.output
    path = None if output == STREAM else Path(output)
    destination = Destination(path, False, (), CompanionFiles((), (), ()))
    refuse_input_as_output(destination, job.inputs)
    found = find_forms(job, engine, execution)
    roots = _roots(job, found)
    kept = [(each.spec, each.form) for each in found if each.spec is not None and each.form]
    if not kept:
        labels = [checkpoint.label for checkpoint in job.part.checkpoints]
        raise MismatchError(f"has the same tensors as {labels[0]}", path=labels[1])
    equal = tuple(each.name for each in found if each.is_equal)
    facts = DeltaFacts(tuple(spec for spec, _ in kept), equal)
    tensors = lay_out(chain.from_iterable(part_entries(*each) for each in kept))
    folder = None if path is None else path.parent
    selection = Selection(job.request.keys, job.request.excludes)
    draft = draft_delta(job.part, job.names, roots, tensors, selection, folder)
    metadata = agreed_metadata(job.part.checkpoints)
    header = encode_header(tensors, _metadata(metadata, draft, facts))
    name = "standard output" if path is None else path.name
    files = ComponentFiles("", (OutputFile(name, tensors),), None)
    destination = replace(destination, components=(files,))
    size = len(header) + tensors[-1].stop
    with ExitStack() as publishing:
        check = job.inputs.require_unchanged
        with open_output(destination, size, replace=force, check=check) as writer:
            file = writer.add(0, name, tensors, len(header))
            rows = _write(job, kept, found, writer, engine, execution)
            ledger = replace(draft, root=root_of(rows))
            done = encode_header(tensors, _metadata(metadata, ledger, facts), len(header))
            file.write(done, 0)
            file.sync()
            if path is not None:
                publishing.enter_context(locked([Path(os.path.realpath(path)).parent]))
    whole = sum(not form.planes for _, form in kept)
    return DeltaResult(ledger, len(kept) - whole, whole, len(equal), job.read, tensors[-1].stop)


def _metadata(agreed: dict[str, str], ledger: Ledger, facts: DeltaFacts) -> dict[str, str]:
    text = encode_ledger(ledger, text_digest)
    require_readable(ledger, text)
    return {
        **agreed,
        LEDGER_KEY: text,
        DELTA_KEY: encode_facts(facts, text, text_digest),
    }


def find_forms(job: DeltaJob, engine: Engine, execution: ExecutionOptions) -> list[Finding]:
    """What is to be kept of every tensor, in the order of their names."""
    survey = DeltaSurvey(
        job.plan,
        job.sources,
        engine,
        execution.chunk,
        allow_nonfinite=job.request.allow_nonfinite,
    )

    def find(task: Sequence[Step], advance: Advance) -> list[Finding]:
        return [survey.find(step, advance) for step in task]

    groups = tasks(job.plan.steps, lambda step: _size(job, step.name))
    return list(chain.from_iterable(run_in_order(find, groups, execution)))


def _size(job: DeltaJob, name: str) -> int:
    return sum(each.tensors[name].size for each in job.sources if name in each.tensors)


def _roots(job: DeltaJob, found: Sequence[Finding]) -> tuple[str, str]:
    """The content digests of BASE and FINE; OutputError if they are others than were known."""
    roots = []
    for number, checkpoint in enumerate(job.part.checkpoints):
        # of two names of one tensor, one row
        rows = {row[0]: row for each in found for source, row in each.rows if source == number}
        root = root_of(rows.values())
        if checkpoint.digest not in (None, root):
            raise OutputError("changed while it was read", path=checkpoint.label)
        checkpoint.digest = root
        roots.append(root)
    base, fine = roots
    return base, fine


def _write(
    job: DeltaJob,
    kept: Sequence[tuple[TensorSpec, DeltaForm]],
    found: Sequence[Finding],
    writer: OutputWriter,
    engine: Engine,
    execution: ExecutionOptions,
) -> list[Row]:
    """Write all differences; the rows of the delta's own tensors."""
    steps = {step.name: step for step in job.plan.kept}
    digests = {each.name: [row[3] for _, row in each.rows] for each in found}
    scratch = Scratch()

    def write(tensor: str, offset: int, data: memoryview) -> None:
        writer.write(0, tensor, offset, data)

    def make(task: Sequence[tuple[TensorSpec, DeltaForm]], advance: Advance) -> list[Row]:
        rows: list[Row] = []
        for spec, form in task:
            one = DifferenceWriter(spec, form, engine, write)
            if form.planes:
                step = steps[spec[0]]
                reading = DifferencePass(job.plan, step, job.sources, engine, execution.chunk)
                for chunk in reading.chunks(scratch, advance):
                    one.write(chunk)
                if reading.digests() != digests[spec[0]]:
                    raise OutputError("an input was changed while it was read", tensor=spec[0])
            else:
                stored = copied_tensor(job.sources[1], spec[0])
                for _, piece in stored.pieces(scratch):
                    one.copy(piece)
                    advance(len(piece))
            rows += one.rows()
        return rows

    groups = tasks(kept, lambda each: _size(job, each[0][0]))
    return list(chain.from_iterable(run_in_order(make, groups, execution)))
