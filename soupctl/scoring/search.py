"""A search for the weights of a soup that score best, as a whole or by block.

Rule 1: weights are exact: shares of the whole in thousandths, which add up to it. An ingredient
whose share is zero is left out.
Rule 2: the first trial is the mean of all ingredients, so the result is never worse than that.
Rule 3: the same seed, number of jobs and scores lead to the same trials, so a search that
resumes from the recorded scores ends as if it had never been interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.hashing import ignore_progress
from ..choices import SearchSampler
from ..cluster.workers import Workers
from ..errors import UsageError
from ..frozen import frozen
from ..merge.average import Request, average, open_job, planned_average
from ..merge.blocks.families import named_blocks
from ..merge.blocks.request import BlockWeights
from ..merge.ingredients import Ingredient, as_ingredient, open_inputs
from ..merge.job import ComponentResult, Job
from ..merge.preflight import require_free
from ..merge.rounds import arrange
from ..merge.run import carry_out_together
from ..merge.sweep import of_these
from ..workers import ExecutionOptions
from .journal_facts import JournaledIngredient, options_of
from .scorer import Scoring
from .study import Shares, open_study, shares_of
from .trials import Report, SoupTrial, Trials, open_choice, require_files

if TYPE_CHECKING:
    import optuna

COMMAND = "search"
NAMED = "named"
"""Stands for every named block of the model."""


@frozen
class WeightSearch:
    """A search for the weights of a soup."""

    request: Request
    """The ingredients, without weights, and the output."""
    scoring: Scoring
    trials: int
    """Candidates that are scored."""
    sampler: SearchSampler = SearchSampler.TPE
    seed: int = 0
    blocks: tuple[str, ...] = ()
    """Globs or names of blocks with weights of their own, or `named` for every named block."""
    resume: bool = False
    """Whether the scores in an existing journal are used."""

    def __post_init__(self) -> None:
        """Raise UsageError for a search that makes no sense."""
        request = self.request
        require_files(request.output, [each.path for each in self.ingredients])
        if any(each.weight != 1 for each in self.ingredients):
            raise UsageError("a search finds the weights of its inputs", advice="leave out @WEIGHT")
        if len(self.ingredients) < 2:
            raise UsageError("a search weights at least two inputs against each other")
        if self.trials < 1 or not 0 <= self.seed < 2**32:
            raise UsageError("a search needs at least one trial, and a seed from 0 to 2^32 - 1")
        if request.blocks is not None or request.take or request.allow_nonfinite:
            what = "a search has neither given weights by block nor taken or nonfinite tensors"
            raise UsageError(what)

    @property
    def ingredients(self) -> tuple[Ingredient, ...]:
        """The ingredients, also those given as paths."""
        return tuple(map(as_ingredient, self.request.ingredients))


@frozen
class WeightPoint:
    """Weights that are tried: the share of every ingredient elsewhere, and in each block."""

    default: Shares
    blocks: tuple[tuple[str, Shares], ...] = ()

    @property
    def used(self) -> tuple[int, ...]:
        """The places of the ingredients that have a share anywhere."""
        rows = (self.default, *(row for _, row in self.blocks))
        return tuple(n for n in range(len(self.default)) if any(row[n] for row in rows))

    @property
    def weights(self) -> tuple[Any, ...]:
        """The point in the journal."""
        if not self.blocks:
            return tuple(map(str, self.default))
        rows = (self.default, *(row for _, row in self.blocks))
        return tuple([*map(str, row)] for row in rows)

    def request(self, asked: WeightSearch, output: str | Path, keep_sum: bool) -> Request:
        """The soup with these weights."""
        paths = [asked.ingredients[n].path for n in self.used]
        shared = replace(asked.request, output=output, keep_sum=keep_sum)
        if not self.blocks:
            weighted = [
                Ingredient(path, self.default[n]) for path, n in zip(paths, self.used, strict=True)
            ]
            return replace(shared, ingredients=weighted)
        blocks = tuple((glob, tuple(row[n] for n in self.used)) for glob, row in self.blocks)
        default = tuple(self.default[n] for n in self.used)
        return replace(shared, ingredients=paths, blocks=BlockWeights(blocks, default))


@frozen
class FoundWeights:
    """The result of a search: the best weights, and their soup."""

    contents: tuple[JournaledIngredient, ...]
    """Every ingredient that was tried."""
    point: WeightPoint
    score: float
    uniform: float
    """The score of the mean of all ingredients."""
    made: tuple[ComponentResult, ...]
    """The result of each component."""


def search(
    asked: WeightSearch,
    *,
    force: bool = False,
    execution: ExecutionOptions | None = None,
    report: Report = lambda scored: None,
    workers: Workers | None = None,
) -> FoundWeights:
    """Try weights, make the soup of the best, and return what was found.

    `force` replaces an existing output, and the journal unless the search is resumed. `report` is
    called with every score; `workers` make and score candidates. Raises ScorerError if a candidate
    gets no score, LimitError without optuna, and any other child of SoupError; then there is no
    output, or the old one, and the journal has all scores so far.
    """
    with open_search(asked) as job:
        require_free(job, force=force)
    globs = _globs(asked)
    rows = range(1 + len(globs))
    names = [_name(row, n) for row in rows for n in range(len(asked.ingredients))]
    study = open_study(asked.sampler, asked.seed, names, minimize=asked.scoring.minimize)
    request = asked.request
    options = options_of(request) | {
        "blocks": list(globs),
        "jobs": asked.scoring.jobs,
        "sampler": asked.sampler.value,
        "seed": asked.seed,
    }
    choice = open_choice(
        request, COMMAND, asked.scoring, options, report, resume=asked.resume, replace=force
    )
    with choice as (contents, trials):
        trials.workers = workers
        tried = list(_tried(asked, study, globs, trials, execution))
    (uniform, _), *_ = tried
    score, point = tried[asked.scoring.best_first([score for score, _ in tried])[0]]
    winner = point.request(asked, request.output, request.keep_sum)
    made = average(winner, force=force, execution=execution)
    return FoundWeights(contents, point, score, uniform, made)


def _tried(
    asked: WeightSearch,
    study: optuna.Study,
    globs: Sequence[str],
    trials: Trials,
    execution: ExecutionOptions | None,
) -> Iterator[tuple[float, WeightPoint]]:
    """Every score with its point, as many at once as there are jobs; the study is told of each."""
    for start in range(0, asked.trials, asked.scoring.jobs):
        count = min(asked.scoring.jobs, asked.trials - start)
        samples = [study.ask() for _ in range(count)]
        points = [_point(each, len(asked.ingredients), globs) for each in samples]
        every = [SoupTrial(_label(asked, each), each.weights) for each in points]
        by_key = {trial.key: point for trial, point in zip(every, points, strict=True)}

        def make(
            some: Sequence[SoupTrial], by_key: dict[str, WeightPoint] = by_key
        ) -> Sequence[Path]:
            places = [trials.scratch.place() for _ in some]
            _make(asked, [by_key[each.key] for each in some], places, execution)
            return places

        def alone(
            trial: SoupTrial, place: Path, by_key: dict[str, WeightPoint] = by_key
        ) -> Callable[[], object]:
            made = by_key[trial.key].request(asked, place, keep_sum=False)
            options = replace(execution or ExecutionOptions(), threads=1, progress=ignore_progress)
            return partial(average, made, force=True, execution=options)

        scores = [score for _, score in trials.scores(every, make, alone=alone)]
        for sample, score in zip(samples, scores, strict=True):
            study.tell(sample, score)
        yield from zip(scores, points, strict=True)


@contextmanager
def open_search(asked: WeightSearch) -> Iterator[Job]:
    """The mean of all ingredients, planned and not yet computed; raises what `open_job` raises."""
    shares = shares_of([1.0] * len(asked.ingredients))
    point = WeightPoint(shares, tuple((glob, shares) for glob in _globs(asked)))
    with open_job(point.request(asked, asked.request.output, asked.request.keep_sum)) as job:
        yield job


def _globs(asked: WeightSearch) -> tuple[str, ...]:
    """The blocks that have weights of their own; UsageError for a model without named ones."""
    if asked.blocks != (NAMED,):
        return asked.blocks
    with open_job(asked.request) as job:
        names = {step.name for component in job.components for step in component.plan.steps}
        label = job.weights[0][0]
    known = named_blocks(names)
    if known is None:
        what = "its tensors are those of no model with named blocks"
        raise UsageError(what, path=label, advice="name globs instead")
    return tuple(known.globs)


def _name(row: int, place: int) -> str:
    """The study's name of an ingredient's weight, in a block or, with row 0, elsewhere."""
    return f"{row}.{place}"


def _point(sample: optuna.Trial, count: int, globs: Sequence[str]) -> WeightPoint:
    """The weights that a sampler proposes."""

    def shares(row: int) -> Shares:
        return shares_of([sample.suggest_float(_name(row, n), 0.0, 1.0) for n in range(count)])

    default = shares(0)
    return WeightPoint(default, tuple((glob, shares(row)) for row, glob in enumerate(globs, 1)))


def _label(asked: WeightSearch, point: WeightPoint) -> str:
    """The name of a point in messages."""
    names = [f"{point.default[n]} {asked.ingredients[n].path}" for n in point.used]
    return " + ".join(names) + (", others by block" if point.blocks else "")


def _make(
    asked: WeightSearch,
    points: Sequence[WeightPoint],
    places: Sequence[Path],
    execution: ExecutionOptions | None,
) -> None:
    """Make the soups of points in one pass, which reads each ingredient once."""
    request = asked.request
    with open_inputs(
        asked.ingredients, component=request.component, variant=request.variant
    ) as inputs:
        jobs = []
        for point, place in zip(points, places, strict=True):
            each = point.request(asked, place, keep_sum=False)
            chosen = [as_ingredient(x) for x in each.ingredients]
            jobs.append(planned_average(each, chosen, of_these(inputs, point.used)))
        options = execution or ExecutionOptions()
        rounds = arrange(jobs, options.threads, options.max_memory)
        carry_out_together(rounds, execution=execution)
