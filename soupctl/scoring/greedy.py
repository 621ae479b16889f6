"""The greedy soup: ingredients are added one at a time, the best first, while the score improves.

Rule 1: an ingredient is kept only if the soup with it scores strictly better than all soups before,
so the result is never worse than the best single ingredient. Of ingredients with equal scores the
one that is named first is tried first (Wortsman et al., "Model soups", 2022).
Rule 2: a trial reads the exact sum of what was kept, and one ingredient, once; one that is kept is
read again for the next sum.
Rule 3: the result is made anew from its ingredients, as `average` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..cluster.workers import Workers
from ..errors import UsageError
from ..frozen import frozen
from ..merge.average import Request, average, open_job
from ..merge.ingredients import Ingredient, as_ingredient
from ..merge.job import ComponentResult, Job
from ..merge.preflight import require_free
from ..workers import ExecutionOptions
from .greedy_candidates import GreedyCandidates
from .journal_facts import JournaledIngredient, options_of
from .scorer import Scoring
from .trials import Report, SoupTrial, Trials, open_choice, require_files

COMMAND = "greedy"


@frozen
class Greedy:
    """A greedy soup to make."""

    request: Request
    """The ingredients to choose from, with their weights, and the output."""
    scoring: Scoring
    resume: bool = False
    """Whether the scores in an existing journal are used."""

    def __post_init__(self) -> None:
        """Raise UsageError for standard output, and for what cannot be chosen one by one."""
        require_files(self.request.output, [each.path for each in self.ingredients])
        if self.request.blocks is not None or self.request.take:
            raise UsageError("a greedy soup has neither weights by block nor taken tensors")
        if self.request.allow_nonfinite:
            raise UsageError("no greedy soup can be made of NaN or infinity")

    @property
    def ingredients(self) -> tuple[Ingredient, ...]:
        """The ingredients to choose from, also those given as paths."""
        return tuple(map(as_ingredient, self.request.ingredients))


@frozen
class GreedyChoice:
    """The choice: the scores, and the soup of the chosen ingredients."""

    contents: tuple[JournaledIngredient, ...]
    """Every ingredient that was tried."""
    singles: tuple[float, ...]
    """The score of each ingredient alone."""
    members: tuple[int, ...]
    """The places of the chosen ones, in the order in which they were added."""
    score: float
    made: tuple[ComponentResult, ...]
    """The result of each component."""


def greedy(
    asked: Greedy,
    *,
    force: bool = False,
    execution: ExecutionOptions | None = None,
    report: Report = lambda scored: None,
    workers: Workers | None = None,
) -> GreedyChoice:
    """Choose ingredients, make their soup, and return what was chosen.

    `force` replaces an existing output, and the journal unless the choice is resumed. `report` is
    called with every score; `workers` make and score candidates. Raises ScorerError if a candidate
    gets no score, and any other child of SoupError; then there is no output, or the old one, and
    the journal has all scores so far.
    """
    with open_greedy(asked) as job:
        require_free(job, force=force)
    options = options_of(asked.request)
    choice = open_choice(
        asked.request, COMMAND, asked.scoring, options, report, resume=asked.resume, replace=force
    )
    with choice as (contents, trials):
        trials.workers = workers
        candidates = GreedyCandidates(asked.request, trials.scratch, execution)
        singles = _singles(candidates, trials)
        members, score = _added(asked, candidates, trials, singles)
    chosen = [asked.ingredients[place] for place in sorted(members)]
    made = average(replace(asked.request, ingredients=chosen), force=force, execution=execution)
    return GreedyChoice(contents, tuple(singles), members, score, made)


@contextmanager
def open_greedy(asked: Greedy) -> Iterator[Job]:
    """The soup of all ingredients, planned and not yet computed; raises what `open_job` raises."""
    with open_job(asked.request) as job:
        yield job


def _singles(candidates: GreedyCandidates, trials: Trials) -> list[float]:
    """The score of each ingredient alone."""
    lone_members = [frozenset((place,)) for place in range(len(candidates.ingredients))]
    members = {candidates.trial(each).key: each for each in lone_members}

    def make(some: Sequence[SoupTrial]) -> list[Path]:
        return [candidates.average(members[each.key], keep_sum=False) for each in some]

    def alone(trial: SoupTrial, place: Path) -> Callable[[], object]:
        return candidates.averaging(members[trial.key], place)

    every = [candidates.trial(each) for each in lone_members]
    return [score for _, score in trials.scores(every, make, alone=alone)]


def _added(
    asked: Greedy, candidates: GreedyCandidates, trials: Trials, singles: Sequence[float]
) -> tuple[tuple[int, ...], float]:
    """The places of the kept ingredients, and the score of their soup.

    As many as there are jobs are tried at once with the same members; of those that improve the
    score, the first is kept, and the rest are tried again with it.
    """
    order = asked.scoring.best_first(singles)
    members, best, place = [order[0]], singles[order[0]], 1
    while place < len(order):
        batch = order[place : place + asked.scoring.jobs]
        scores = _tried(candidates, trials, members, batch)
        better = next(
            (n for n, score in enumerate(scores) if asked.scoring.is_better(score, best)), None
        )
        if better is None:
            place += len(batch)
        else:
            members.append(batch[better])
            best = scores[better]
            place += better + 1
    return tuple(members), best


def _tried(
    candidates: GreedyCandidates, trials: Trials, members: Sequence[int], batch: Sequence[int]
) -> list[float]:
    """The scores of the members with each of a batch."""
    every = [candidates.trial(frozenset((*members, place))) for place in batch]
    added = {trial.key: place for trial, place in zip(every, batch, strict=True)}

    def make(some: Sequence[SoupTrial]) -> list[Path]:
        candidates.hold(frozenset(members))
        return [candidates.add(added[each.key]) for each in some]

    def alone(trial: SoupTrial, place: Path) -> Callable[[], object]:
        candidates.hold(frozenset(members))
        return candidates.adding(added[trial.key], place)

    return [score for _, score in trials.scores(every, make, alone=alone)]
