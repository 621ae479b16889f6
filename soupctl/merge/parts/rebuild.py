"""Soups that several workers verify: each makes parts again, whose digests this process joins.

Rule 1: a kept sum, and earlier states of a soup, are made again by this process alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ...checkpoints.hashing import (
    Identities,
    ignore_progress,
    known_digests,
    remembering_digests,
)
from ...choices import Level
from ...cluster.calls import CallNeeds
from ...cluster.workers import Workers
from ...errors import LedgerError, OutputError
from ...frozen import frozen
from ...workers import ExecutionOptions
from ..engine import engine_of
from ..executor import execute_part
from ..made_again import planned_pass
from ..order import Order, Outcome, PassRows
from ..rebuild import sources_of
from ..verify import ProofQuestion, Verified, open_question, verify
from .divide import PartOfPlan, bytes_of, divided, number_of_parts, part_of
from .record import drafted_rows, have_same_tensors, outcome_of


@frozen
class RebuildTask:
    """A part of a component of a soup that a worker makes again."""

    question: ProofQuestion
    position: int
    """The index of the component."""
    part: PartOfPlan
    execution: ExecutionOptions
    digests: Mapping[Identities, str]
    """The digests of files that are known already."""


def verify_on_workers(
    workers: Workers,
    question: ProofQuestion,
    *,
    level: Level | None = None,
    execution: ExecutionOptions | None = None,
    threads: int = 1,
) -> tuple[Verified, ...]:
    """What `verify` returns, with the soup made again by workers, each with so many threads."""
    execution = execution or ExecutionOptions()
    with remembering_digests():
        return verify(
            question.soup,
            question.ingredients,
            search=question.search,
            level=level,
            component=question.component,
            variant=question.variant,
            execution=execution,
            elsewhere=partial(_made_on_workers, workers, question, execution, threads),
        )


def _made_on_workers(
    workers: Workers,
    question: ProofQuestion,
    execution: ExecutionOptions,
    threads: int,
    position: int,
    order: Order,
) -> Outcome:
    """The outcome of an order whose parts workers carry out."""
    count = number_of_parts([order], workers.count)
    plans = [plan for (plan,) in divided([order], count)]
    each = replace(execution, threads=threads, progress=ignore_progress)
    tasks = [
        RebuildTask(question, position, PartOfPlan(n, count), each, known_digests())
        for n in range(1, count + 1)
    ]
    found: dict[int, PassRows] = {}
    for place, rows in workers.call(rebuild_part, tasks, _name, CallNeeds(threads)):
        if not have_same_tensors(rows, drafted_rows(order.sources, plans[place])):
            what = "is another soup for a worker than for this process"
            raise OutputError(what, path=question.soup, advice="workers need a shared disk")
        found[place] = rows
        execution.progress(sum(bytes_of(plans[place], order.sources)))
    return outcome_of([found[place] for place in sorted(found)])


def rebuild_part(task: RebuildTask) -> PassRows:
    """On a worker: the rows of a part that is made again."""
    execution = task.execution
    with (
        remembering_digests(dict(task.digests)),
        open_question(task.question, execution) as components,
    ):
        request = components[task.position].request
        ledger = request.inputs.ledger(request.soup)
        if ledger is None:
            raise LedgerError("has no ledger: it is not a soup", path=request.soup.label)
        order = planned_pass(request.soup, sources_of(request, ledger), ledger).order
        (plan,) = part_of([order], task.part)
        engine, execution = engine_of(execution)
        return execute_part(replace(order, plan=plan), engine, execution)


def _name(task: RebuildTask) -> str:
    return f"{task.question.soup}: part {task.part}"
