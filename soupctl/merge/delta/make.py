"""Subtracting a base from a fine-tuned checkpoint: open, survey, write.

Rule 1: a separate pass fixes all offsets in the files before their first byte is written.
Rule 2: the delta of two pipelines is a folder of deltas, one for each component, with FINE's list
of components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

from ...checkpoints.digest import root_of, text_digest
from ...checkpoints.layout import SUFFIXES
from ...checkpoints.open import STREAM
from ...checkpoints.remote.address import address_of, require_target
from ...errors import MismatchError, UsageError
from ...format.header import Tensor, encode_header, lay_out
from ...format.shards import OutputFile
from ...frozen import frozen
from ...ledger.ledger import DELTA_KEY, LEDGER_KEY, Ledger
from ...ledger.ledger_json import encode_ledger, require_readable
from ...storage.lock import locked
from ...workers import ExecutionOptions
from ..aligned import Alignment, align, plan_aligned
from ..companion_files import CompanionFiles
from ..destination import FOREIGN, ComponentFiles, Destination
from ..engine import engine_of
from ..ingredients import ComponentInputs, Ingredient, open_inputs
from ..new_ledger import agreed_metadata, ingredient_names
from ..output import open_output
from ..plan import Plan
from ..preflight import refuse_input_as_output, require_free_place
from ..recipe import Recipe, require_matches, selector
from .format import COMPONENT_FILE, encode_facts, plane_entries
from .passes import (
    ComponentDelta,
    DeltaFindings,
    DeltaJob,
    DeltaRequest,
    kept_facts,
    survey_delta,
    write_delta,
)
from .record import Selection, draft_delta


@frozen
class DeltaResult:
    """The finished delta of one component."""

    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    ledger: Ledger
    changed: int
    """The number of tensors whose differences it holds."""
    whole: int
    """The number of tensors of FINE that it stores whole."""
    equal: int
    """The number of tensors that are the same in both, and left out."""
    read: int
    """Bytes of tensor data read."""
    written: int
    """Bytes of tensor data written."""


def make_delta(
    request: DeltaRequest, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[DeltaResult, ...]:
    """Write FINE - BASE as a delta and return the result of each component.

    `force` replaces an existing output. Raises any child of SoupError; then there is no output, or
    the old one, and no trace.
    """
    with open_delta_job(request) as job:
        return subtract_base(job, force=force, execution=execution)


@contextmanager
def open_delta_job(request: DeltaRequest) -> Iterator[DeltaJob]:
    """The request with both checkpoints opened, which fit each other.

    Raises MismatchError for names, shapes or kinds that do not, and for quantised weights, and
    UsageError for several components in one file.
    """
    if (address := address_of(request.output)) is not None:
        require_target(address)
    if Path(request.output).suffix.lower() in FOREIGN:
        what = f"a {Path(request.output).suffix} file holds no safetensors"
        raise UsageError(what, path=request.output, advice="name a .safetensors file")
    with open_inputs(
        [Ingredient(request.base), Ingredient(request.fine)],
        component=request.component,
        variant=request.variant,
        ignore_ledger=request.ignore_ledger,
    ) as inputs:
        count, output = len(inputs.components), str(request.output)
        is_one = output == STREAM or output.endswith(SUFFIXES) or address is not None
        if count > 1 and is_one:
            what = f"one file cannot hold the deltas of {count} components"
            advice = "name a folder with -o, or pick one with --component"
            raise UsageError(what, path=request.output, advice=advice)
        recipe = recipe_of(request)
        if recipe.keys or recipe.excludes:
            every = (each for component in inputs.components for each in component.checkpoints)
            require_matches(recipe, {name for each in every for name in each.tensors})
        names = ingredient_names(inputs)
        components = tuple(
            _component(request, recipe, component, names) for component in inputs.components
        )
        yield DeltaJob(request, inputs, components)


def _component(
    request: DeltaRequest, recipe: Recipe, component: ComponentInputs, names: tuple[str, ...]
) -> ComponentDelta:
    alignment = align(component.checkpoints, selector(recipe))
    return ComponentDelta(request, component, alignment, plan_delta(recipe, alignment), names)


def recipe_of(request: DeltaRequest) -> Recipe:
    """The recipe with the selection of a request; the weights are unused."""
    return Recipe((Fraction(1), Fraction(1)), keys=request.keys, excludes=request.excludes)


def plan_delta(recipe: Recipe, alignment: Alignment) -> Plan:
    """The steps for BASE and FINE, of which only names, kinds and sources are used.

    Raises the errors of `make_plan`, and MismatchError for quantised weights: their difference
    would have to be rounded to codes.
    """
    plan = plan_aligned(recipe, alignment)
    for step in plan.kept:
        for source, scale in zip(step.sources, step.scales, strict=False):
            if scale is not None:
                what = "is quantised, and its codes have no exact difference"
                label = alignment.sources[source].label
                advice = "make the delta before quantising"
                raise MismatchError(what, path=label, tensor=step.name, advice=advice)
    return plan


def subtract_base(
    job: DeltaJob, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[DeltaResult, ...]:
    """Carry out a job; raises the errors of `make_delta`."""
    engine, execution = engine_of(execution or ExecutionOptions())
    require_free(job, force=force)
    surveys = [survey_delta(each, engine, execution) for each in job.components]
    tensors = [lay_out(chain(*(plane_entries(*kept) for kept in each.kept))) for each in surveys]
    destination = _destination(job, tensors)
    pending = [
        _pending(*each, destination)
        for each in zip(job.components, surveys, destination.components, strict=True)
    ]
    check = job.inputs.require_unchanged
    size = sum(len(each.header) + each.written for each in pending)
    # the folder stays locked until the output has its name
    with (
        ExitStack() as publishing,
        open_output(destination, size, replace=force, check=check) as writer,
    ):
        places = [
            writer.add(number, each.path, each.tensors, len(each.header))
            for number, each in enumerate(pending)
        ]
        for name, path in destination.companions.copies:
            writer.add_copy(name, path)
        results = []
        for number, (each, place) in enumerate(zip(pending, places, strict=True)):
            write = partial(writer.write, number)
            rows = write_delta(each.delta, each.survey, write, engine, execution)
            ledger = replace(each.draft, root=root_of(rows))
            place.write(encode_header(each.tensors, each.metadata(ledger), len(each.header)), 0)
            place.sync()
            results.append(_result(each, ledger))
        publishing.enter_context(locked(destination.locked))
    return tuple(results)


@frozen
class _Pending:
    """A component's delta that is surveyed and not yet written."""

    delta: ComponentDelta
    survey: DeltaFindings
    path: str
    """The name of its file within the output."""
    tensors: tuple[Tensor, ...]
    draft: Ledger
    header: bytes
    """The header with the draft, as long as the one with the complete ledger."""

    @property
    def written(self) -> int:
        """Bytes of tensor data that it takes."""
        return self.tensors[-1].stop if self.tensors else 0

    def metadata(self, ledger: Ledger) -> dict[str, str]:
        """The metadata of its file."""
        return _metadata(self.delta, self.survey, ledger)


def _pending(
    delta: ComponentDelta,
    survey: DeltaFindings,
    files: ComponentFiles,
    destination: Destination,
) -> _Pending:
    """The delta of a component with its place; LedgerError for an input whose ledger is not its."""
    (file,) = files.files
    selection = Selection(delta.request.keys, delta.request.excludes)
    folder = destination.folder_of(files)
    draft = draft_delta(delta.inputs, delta.names, survey.roots, file.tensors, selection, folder)
    header = encode_header(file.tensors, _metadata(delta, survey, draft))
    return _Pending(delta, survey, files.path_of(file.name), file.tensors, draft, header)


def _metadata(delta: ComponentDelta, survey: DeltaFindings, ledger: Ledger) -> dict[str, str]:
    text = encode_ledger(ledger, text_digest)
    require_readable(ledger, text)
    facts = encode_facts(kept_facts(survey), text, text_digest)
    return {**agreed_metadata(delta.inputs.checkpoints), LEDGER_KEY: text, DELTA_KEY: facts}


def _result(made: _Pending, ledger: Ledger) -> DeltaResult:
    whole = sum(not form.planes for _, form in made.survey.kept)
    return DeltaResult(
        name=made.delta.inputs.name,
        ledger=ledger,
        changed=len(made.survey.kept) - whole,
        whole=whole,
        equal=len(kept_facts(made.survey).equal),
        read=made.delta.read,
        written=made.written,
    )


def require_free(job: DeltaJob, *, force: bool = False) -> None:
    """Raise the OutputError that `subtract_base` would raise for the place of its output."""
    destination = _destination(job, [()] * len(job.components))
    refuse_input_as_output(destination, job.inputs)
    require_free_place(destination, force=force)


def _destination(job: DeltaJob, tensors: Sequence[tuple[Tensor, ...]]) -> Destination:
    """One file with the only component's `tensors`, or a folder with a file for each component."""
    path = None if job.request.output == STREAM else Path(job.request.output)
    if len(job.components) == 1:
        name = "standard output" if path is None else path.name
        files = ComponentFiles("", (OutputFile(name, tensors[0]),), None)
        address = address_of(job.request.output)
        return Destination(path, False, (files,), CompanionFiles((), (), ()), address=address)
    every = tuple(
        ComponentFiles(each.inputs.name, (OutputFile(COMPONENT_FILE, its),), None)
        for each, its in zip(job.components, tensors, strict=True)
    )
    listing = job.inputs.models[1].pipeline_index
    copies = () if listing is None else ((listing.path.name, listing.path),)
    return Destination(path, True, every, CompanionFiles(copies, (), ()))
