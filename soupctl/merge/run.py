"""Carrying out jobs: survey, open the outputs, execute, write the ledgers, publish.

Rule 1: every command that makes a soup ends here; one job is a round of one.
Rule 2: nothing is published before all digests are known and the ledger is written; all outputs of
a round are on disk before the first of them gets its name.
Rule 3: the folders of the outputs are locked from the last check of the inputs until the outputs
have their names: of two commands that change one soup, the later one finds it changed.
Rule 4: a new sum is published before its soup, and the sum of a replaced soup is removed after it.
If publishing the soup fails, the new sum is removed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ..engines.contract import Engine
from ..storage.descriptors import allow_files
from ..storage.lock import locked
from ..workers import ExecutionOptions
from .engine import engine_of
from .executor import execute
from .job import Job
from .job_files import JobFiles, Results
from .kept_sum.find import replaced_sum
from .kept_sum.publish import SumPublisher, remove_sum
from .kept_sum.survey import SumLayout
from .memory import require_memory
from .order import Outcome
from .output import open_output
from .preflight import refuse_input_as_output
from .rounds import Rounds, require_places
from .sum_layouts import expected_layouts, source_errors_first


def carry_out(
    job: Job, *, force: bool = False, execution: ExecutionOptions | None = None
) -> Results:
    """Make the soup and return the result of each component; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    engine, execution = engine_of(execution or ExecutionOptions())
    refuse_input_as_output(job.destination, job.used, job.replaceable)
    (results,) = _carry_out_round([job], engine, execution, force)
    return results


def carry_out_together(
    rounds: Rounds, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[Results, ...]:
    """Make all outputs, which have equal components, and return the results of each.

    Raises any child of SoupError. Each output appears whole or not at all, in the order of the
    jobs. After a failure before the first of a round is named, none of that round exists. After a
    later failure or a kill, the outputs named so far stay, each complete; the others do not exist,
    or are the old ones.
    """
    require_places(rounds.jobs, force=force)
    engine, execution = engine_of(execution or ExecutionOptions(rounds.threads))
    results: list[Results] = []
    for jobs in rounds.rounds:
        results += _carry_out_round(jobs, engine, execution, force)
    return tuple(results)


def _carry_out_round(
    jobs: Sequence[Job], engine: Engine, execution: ExecutionOptions, force: bool
) -> list[Results]:
    """Make the outputs of all jobs in step, reading shared sources once."""
    layouts = [expected_layouts(job, engine, execution) for job in jobs]
    require_memory(jobs, [[sums.forms.of for sums in some] for some in layouts], execution)
    with ExitStack() as publishing:
        with ExitStack() as stack:
            # the last one opened is published first
            opened = [
                stack.enter_context(_open(job, layout, force))
                for job, layout in reversed([*zip(jobs, layouts, strict=True)])
            ]
            outputs = opened[::-1]
            allow_files(sum(output.job.open_files for output in outputs))
            for output in outputs:
                output.create_files()
            made = [
                _make_component(position, outputs, engine, execution)
                for position, _ in enumerate(zip(*(job.components for job in jobs), strict=True))
            ]
            for output, outcomes in zip(outputs, zip(*made, strict=True), strict=True):
                output.finish(outcomes)
            for output in outputs:
                output.sync()
            publishing.enter_context(locked(_folders(jobs)))
            replaced = [replaced_sum(job.destination.file) if force else None for job in jobs]
        for output, old in zip(outputs, replaced, strict=True):
            if old is not None and old != output.sum_path:
                remove_sum(old)
    return [output.results() for output in outputs]


def _folders(jobs: Sequence[Job]) -> list[Path]:
    """The folders of the outputs."""
    return [folder for job in jobs for folder in job.destination.locked]


@contextmanager
def _open(job: Job, layouts: Sequence[SumLayout], force: bool) -> Iterator[JobFiles]:
    """The output of a job: its sum, if kept, is published first, then the soup."""
    destination = job.destination
    if not layouts:
        check = job.require_unchanged
        with open_output(destination, job.size, replace=force, check=check) as writer:
            yield JobFiles(job, writer)
        return
    assert destination.path is not None
    publisher = SumPublisher(destination.path, destination.is_folder)
    check = job.require_models_unchanged
    with (
        publisher.withdrawn_on_failure(),
        open_output(destination, job.size, replace=force, check=check) as writer,
        publisher.opened(layouts, job.require_unchanged) as fds,
    ):
        yield JobFiles(job, writer, publisher, layouts, fds)


def _make_component(
    position: int, outputs: Sequence[JobFiles], engine: Engine, execution: ExecutionOptions
) -> tuple[Outcome, ...]:
    """Make one component of every output, except its headers."""
    components = [output.job.components[position] for output in outputs]
    with source_errors_first(components):
        outcomes = _execute(position, outputs, engine, execution)
        if not any(outcome.misfits for outcome in outcomes):
            return outcomes
        forms = [
            output.lay_out_sum_again(position, outcome.misfits)
            for output, outcome in zip(outputs, outcomes, strict=True)
        ]
        require_memory([output.job for output in outputs], forms, execution)
        return _execute(position, outputs, engine, execution)


def _execute(
    position: int, outputs: Sequence[JobFiles], engine: Engine, execution: ExecutionOptions
) -> tuple[Outcome, ...]:
    """The outcome of one component of every output, with that of its sum."""
    orders = [output.order(position) for output in outputs]
    apart = [(n, order) for n, output in enumerate(outputs) for order in output.sum_order(position)]
    made = [*execute([*orders, *(order for _, order in apart)], engine, execution)]
    for (number, _), found in zip(apart, made[len(orders) :], strict=True):
        made[number] = replace(made[number], sum=found.sum, misfits=found.misfits)
    return tuple(made[: len(orders)])
