"""Subtracting a base from a fine-tuned checkpoint: open, survey, write.

Rule 1: a separate pass fixes all offsets in the file before its first byte is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

from ...checkpoints.digest import root_of, text_digest
from ...checkpoints.open import STREAM
from ...engines.contract import Engine
from ...errors import MismatchError, UsageError
from ...format.header import Tensor, encode_header, lay_out
from ...format.shards import OutputFile
from ...ledger.ledger import DELTA_KEY, LEDGER_KEY, Ledger
from ...ledger.ledger_json import encode_ledger, require_readable
from ...storage.lock import locked
from ...workers import ExecutionOptions
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
from ..ingredients import Ingredient, open_inputs
from ..new_ledger import agreed_metadata, ingredient_names
from ..output import open_output
from ..plan import Plan, make_plan
from ..preflight import require_free_place
from ..recipe import Recipe, require_matches, selector
from .format import DeltaFacts, encode_facts, part_entries
from .passes import DeltaFindings, DeltaJob, DeltaRequest, kept_facts, survey_delta, write_delta
from .record import Selection, draft_delta


@dataclass(frozen=True, slots=True)
class DeltaResult:
    """A finished delta."""

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
) -> DeltaResult:
    """Write FINE - BASE as a delta and return its result; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_delta_job(request) as job:
        return subtract_base(job, force=force, execution=execution)


@contextmanager
def open_delta_job(request: DeltaRequest) -> Iterator[DeltaJob]:
    """The request with both checkpoints opened, which fit each other.

    Raises MismatchError for names, shapes or kinds that do not, and for quantised weights.
    """
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
        recipe = recipe_of(request)
        if recipe.keys or recipe.excludes:
            require_matches(recipe, {name for each in part.checkpoints for name in each.tensors})
        alignment = align(part.checkpoints, selector(recipe))
        plan = plan_delta(recipe, alignment)
        yield DeltaJob(request, inputs, part, alignment, plan, ingredient_names(inputs))


def recipe_of(request: DeltaRequest) -> Recipe:
    """The recipe with the selection of a request; the weights are unused."""
    return Recipe((Fraction(1), Fraction(1)), keys=request.keys, excludes=request.excludes)


def plan_delta(recipe: Recipe, alignment: Alignment) -> Plan:
    """The steps for BASE and FINE, of which only names, kinds and sources are used.

    Raises the errors of `make_plan`, and MismatchError for quantised weights: their difference
    would have to be rounded to codes.
    """
    plan = make_plan(
        recipe,
        [source.label for source in alignment.sources],
        [source.tensors for source in alignment.sources],
        facts=[facts_of_source(source) for source in alignment.sources],
    )
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
) -> DeltaResult:
    """Carry out a job; raises the errors of `make_delta`."""
    engine, execution = engine_of(execution or ExecutionOptions())
    require_free(job, force=force)
    path = _path(job)
    survey = survey_delta(job, engine, execution)
    if not survey.kept:
        base, fine = (checkpoint.label for checkpoint in job.part.checkpoints)
        raise MismatchError(f"has the same tensors as {base}", path=fine)
    tensors = lay_out(chain.from_iterable(part_entries(*each) for each in survey.kept))
    selection = Selection(job.request.keys, job.request.excludes)
    folder = None if path is None else path.parent
    draft = draft_delta(job.part, job.names, survey.roots, tensors, selection, folder)
    ledger = _publish(job, survey, draft, _destination(path, tensors), force, engine, execution)
    whole = sum(not form.planes for _, form in survey.kept)
    return DeltaResult(
        ledger=ledger,
        changed=len(survey.kept) - whole,
        whole=whole,
        equal=len(kept_facts(survey).equal),
        read=job.read,
        written=tensors[-1].stop,
    )


def require_free(job: DeltaJob, *, force: bool = False) -> None:
    """Raise the OutputError that `subtract_base` would raise for the place of its output."""
    destination = _destination(_path(job), ())
    refuse_input_as_output(destination, job.inputs)
    require_free_place(destination, force=force)


def _path(job: DeltaJob) -> Path | None:
    """The file to write; None for standard output."""
    return None if job.request.output == STREAM else Path(job.request.output)


def _destination(path: Path | None, tensors: tuple[Tensor, ...]) -> Destination:
    """The one file of a delta."""
    name = "standard output" if path is None else path.name
    files = ComponentFiles("", (OutputFile(name, tensors),), None)
    return Destination(path, False, (files,), CompanionFiles((), (), ()))


def _publish(
    job: DeltaJob,
    survey: DeltaFindings,
    draft: Ledger,
    destination: Destination,
    force: bool,
    engine: Engine,
    execution: ExecutionOptions,
) -> Ledger:
    """Write the delta, give it its name and return its complete ledger."""
    (files,) = destination.components
    (file,) = files.files
    agreed, facts = agreed_metadata(job.part.checkpoints), kept_facts(survey)
    header = encode_header(file.tensors, _metadata(agreed, draft, facts))
    size = len(header) + file.tensors[-1].stop
    check = job.inputs.require_unchanged
    # the folder stays locked until the file has its name
    with (
        ExitStack() as publishing,
        open_output(destination, size, replace=force, check=check) as writer,
    ):
        written = writer.add(0, file.name, file.tensors, len(header))
        rows = write_delta(job, survey, partial(writer.write, 0), engine, execution)
        ledger = replace(draft, root=root_of(rows))
        metadata = _metadata(agreed, ledger, facts)
        written.write(encode_header(file.tensors, metadata, len(header)), 0)
        written.sync()
        if destination.path is not None:
            folder = Path(os.path.realpath(destination.path)).parent
            publishing.enter_context(locked([folder]))
    return ledger


def _metadata(agreed: dict[str, str], ledger: Ledger, facts: DeltaFacts) -> dict[str, str]:
    text = encode_ledger(ledger, text_digest)
    require_readable(ledger, text)
    return {**agreed, LEDGER_KEY: text, DELTA_KEY: encode_facts(facts, text, text_digest)}
