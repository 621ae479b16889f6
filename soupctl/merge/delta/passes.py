"""The passes over BASE and FINE that find and write a delta.

Rule 1: a `DeltaRequest` holds everything that decides the delta's bytes; the job is it, opened.
Rule 2: the second pass must read the same bytes as the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from ...checkpoints.digest import Row, root_of
from ...checkpoints.safetensors import StoredTensor
from ...engines.contract import Engine
from ...errors import OutputError, UsageError
from ...frozen import frozen
from ...workers import Advance, ExecutionOptions, Scratch, run_in_order, tasks
from ..aligned import Alignment
from ..chunks import Write
from ..ingredients import ComponentInputs, Inputs
from ..kept_sum.reader import Source, copied_tensor
from ..plan import Plan
from ..step import Step
from .format import DeltaFacts, DeltaForm, TensorSpec
from .survey import DeltaSurvey, DifferencePass, Finding
from .writer import DifferenceWriter


@frozen
class DeltaRequest:
    """A delta to make: everything that decides its bytes, and its output."""

    fine: str | Path
    base: str | Path
    output: str | Path
    """A file, `-` for standard output, or for pipelines a folder."""
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    allow_nonfinite: bool = False
    """Whether tensors that hold NaN or infinity are stored whole."""
    component: str | None = None
    variant: str | None = None
    ignore_ledger: bool = False


@frozen
class ComponentDelta:
    """The delta of one component, ready to be made."""

    request: DeltaRequest
    inputs: ComponentInputs
    """BASE and FINE."""
    alignment: Alignment
    plan: Plan
    names: tuple[str, ...]
    """Their names in the ledger."""

    @property
    def sources(self) -> tuple[Source, Source]:
        """BASE and FINE under the names of BASE."""
        base, fine = self.alignment.sources
        return base, fine

    @property
    def read(self) -> int:
        """Bytes that will be read: tensors that differ three times."""
        return 3 * sum(checkpoint.data_size for checkpoint in self.inputs.checkpoints)


@frozen
class DeltaJob:
    """A delta that is ready to be made, its inputs open: one of each component."""

    request: DeltaRequest
    inputs: Inputs
    """BASE and FINE."""
    components: tuple[ComponentDelta, ...]

    @property
    def only(self) -> ComponentDelta:
        """The one component; UsageError for a pipeline of several."""
        if len(self.components) > 1:
            what = f"has {len(self.components)} components, and one is needed"
            raise UsageError(what, path=self.request.fine, advice="--component picks one")
        return self.components[0]

    @property
    def read(self) -> int:
        """Bytes that will be read."""
        return sum(each.read for each in self.components)


@frozen
class DeltaFindings:
    """The results of the survey of both checkpoints."""

    found: tuple[Finding, ...]
    """In the order of the tensors' names."""
    roots: tuple[str, str]
    """The content digests of BASE and FINE."""

    @property
    def kept(self) -> tuple[tuple[TensorSpec, DeltaForm], ...]:
        """The tensors of FINE that the delta stores, with their forms."""
        pairs = ((each.spec, each.form) for each in self.found)
        return tuple((spec, form) for spec, form in pairs if spec is not None and form is not None)


def survey_delta(
    delta: ComponentDelta, engine: Engine, execution: ExecutionOptions
) -> DeltaFindings:
    """The form of every tensor's difference, and the digests of both checkpoints.

    Raises InputError for NaN or infinity, and OutputError for an input that changed.
    """
    survey = DeltaSurvey(
        delta.plan,
        delta.sources,
        engine,
        execution.chunk,
        allow_nonfinite=delta.request.allow_nonfinite,
    )

    def find(task: Sequence[Step], advance: Advance) -> list[Finding]:
        return [survey.find(step, advance) for step in task]

    groups = tasks(delta.plan.steps, lambda step: _size(delta, step.name))
    found = tuple(chain.from_iterable(run_in_order(find, groups, execution)))
    base, fine = (_root(delta, found, number) for number in (0, 1))
    return DeltaFindings(found, (base, fine))


def _size(delta: ComponentDelta, name: str) -> int:
    return sum(each.tensors[name].size for each in delta.sources if name in each.tensors)


def _root(delta: ComponentDelta, found: Sequence[Finding], number: int) -> str:
    """The content digest of BASE (0) or FINE (1); OutputError if it was another one before."""
    checkpoint = delta.inputs.checkpoints[number]
    # one row for two names of the same tensor
    rows = {row[0]: row for each in found for source, row in each.rows if source == number}
    root = root_of(rows.values())
    if checkpoint.digest not in (None, root):
        raise OutputError("changed while it was read", path=checkpoint.label)
    checkpoint.digest = root
    return root


def kept_facts(survey: DeltaFindings) -> DeltaFacts:
    """The facts that the delta records."""
    equal = tuple(sorted({each.name for each in survey.found if each.is_equal}))
    return DeltaFacts(tuple(spec for spec, _ in survey.kept), equal)


def write_delta(
    delta: ComponentDelta,
    survey: DeltaFindings,
    write: Write,
    engine: Engine,
    execution: ExecutionOptions,
) -> list[Row]:
    """Write all differences; returns the rows of the delta's own tensors.

    Raises OutputError for an input that has changed since the survey.
    """
    steps = {step.name: step for step in delta.plan.kept}
    digests = {each.name: [row[3] for _, row in each.rows] for each in survey.found}
    scratch = Scratch()

    def make(task: Sequence[tuple[TensorSpec, DeltaForm]], advance: Advance) -> list[Row]:
        rows: list[Row] = []
        for spec, form in task:
            name = spec[0]
            one = DifferenceWriter(spec, form, engine, write)
            if form.planes:
                reading = DifferencePass(
                    delta.plan, steps[name], delta.sources, engine, execution.chunk
                )
                for part in reading.chunks(scratch, advance):
                    one.write(part)
                found = reading.digests()
            else:
                _copy(copied_tensor(delta.sources[1], name), one, scratch, advance)
                found = [digests[name][0], one.rows()[0][3]]
            if found != digests[name]:
                raise OutputError("an input was changed while it was read", tensor=name)
            rows += one.rows()
        return rows

    groups = tasks(survey.kept, lambda each: _size(delta, each[0][0]))
    return list(chain.from_iterable(run_in_order(make, groups, execution)))


def _copy(
    stored: StoredTensor, writer: DifferenceWriter, scratch: Scratch, advance: Advance
) -> None:
    """Copy a tensor that is stored whole."""
    for _, piece in stored.pieces(scratch):
        writer.copy(piece)
        advance(len(piece))
