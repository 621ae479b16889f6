"""Rebuilds a delta from its fine-tuned checkpoint and its base."""

from __future__ import annotations

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.digest import root_of
from ...checkpoints.read_progress import current_progress
from ...errors import LedgerError
from ...ledger.ledger import Ledger
from ...workers import ExecutionOptions
from ..aligned import align
from ..engine import engine_of
from ..ingredients import ComponentInputs
from ..opened_inputs import OpenedInputs
from ..recipe import selector
from ..sources import SEARCH, exact_sources
from .make import plan_delta, recipe_of
from .passes import ComponentDelta, DeltaRequest, kept_facts, survey_delta, write_delta
from .reader import DeltaReader


def delta_difference(
    inputs: OpenedInputs, delta: Checkpoint, ledger: Ledger, execution: ExecutionOptions
) -> str | None:
    """The difference of a delta or its record from FINE - BASE; None if there is none.

    Raises LedgerError if one of the two is not found or has other content.
    """
    engine, execution = engine_of(execution)
    sources = exact_sources(inputs, delta, ledger.ingredients, ledger.base, SEARCH)
    found = [source.checkpoint for source in sources]
    # a checkpoint minus itself has its base alone
    found *= 3 - len(found)
    checkpoints = tuple(each for each in found if isinstance(each, Checkpoint))
    base, fine = (each.label for each in checkpoints)
    request = DeltaRequest(fine, base, "", ledger.keys, ledger.excludes, allow_nonfinite=True)
    component = ComponentInputs("", checkpoints, (None, None), None)
    recipe = recipe_of(request)
    alignment = align(checkpoints, selector(recipe))
    plan = plan_delta(recipe, alignment)
    job = ComponentDelta(request, component, alignment, plan, ())
    current_progress().expect(job.read)
    survey = survey_delta(job, engine, execution)
    if survey.roots != (sources[0].digest, sources[-1].digest):
        raise LedgerError("has other content than the ledger records", path=fine, advice=SEARCH)
    if kept_facts(survey) != DeltaReader(delta).facts:
        return "records other tensors than differ in its fine-tuned checkpoint and its base"
    rows = write_delta(job, survey, lambda tensor, offset, data: None, engine, execution)
    if root_of(rows) != ledger.root:
        return "is not its fine-tuned checkpoint minus its base"
    return None
