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
from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoints.hashing import ignore_progress
from ..checkpoints.open import STREAM, find_input
from ..cluster import Workers
from ..errors import MismatchError, UsageError
from ..frozen import frozen
from ..merge.average import Request, average, open_job
from ..merge.ingredients import Ingredient, as_ingredient
from ..merge.job import ComponentResult, Job
from ..merge.preflight import require_free
from ..merge.revise import revise
from ..merge.revision import Addition, Revision
from ..workers import ExecutionOptions
from .scorer import Scoring
from .trials import Contents, Report, SoupTrial, Trials, open_choice, require_files

COMMAND = "greedy"
LEFT_OUT = "0"


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
        if self.request.output == STREAM:
            what = "the journal is kept beside the output, which must be a file or a folder"
            raise UsageError(what, advice="name one with -o")
        require_files(each.path for each in self.ingredients)
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

    contents: tuple[Contents, ...]
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
        pot = _Pot(asked, trials, execution)
        singles = _singles(pot)
        order = asked.scoring.best_first(singles)
        members, score = _added(pot, order, singles[order[0]])
    chosen = [asked.ingredients[place] for place in sorted(members)]
    made = average(replace(asked.request, ingredients=chosen), force=force, execution=execution)
    return GreedyChoice(contents, tuple(singles), members, score, made)


@contextmanager
def open_greedy(asked: Greedy) -> Iterator[Job]:
    """The soup of all ingredients, planned and not yet computed; raises what `open_job` raises."""
    with open_job(asked.request) as job:
        yield job


def options_of(request: Request) -> dict[str, Any]:
    """The options of a request that decide the bytes of its soups, for the journal."""
    return {
        "component": request.component,
        "dtype": None if request.dtype is None else request.dtype.value,
        "exclude": list(request.excludes),
        "key": list(request.keys),
        "on-int": request.on_int.value,
        "variant": request.variant,
    }


class _Pot:
    """Makes candidates: the kept ingredients, whose exact sum it has, and one more."""

    def __init__(self, asked: Greedy, trials: Trials, execution: ExecutionOptions | None) -> None:
        self.asked = asked
        self.trials = trials
        self._execution = execution
        self._members: frozenset[int] = frozenset()
        self._soup: Path | None = None
        """The soup of the members, with its kept sum."""

    def trial(self, members: frozenset[int]) -> SoupTrial:
        """The trial of a soup of these ingredients."""
        every = self.asked.ingredients
        label = " + ".join(str(every[place].path) for place in sorted(members))
        weights = (
            str(each.weight) if place in members else LEFT_OUT for place, each in enumerate(every)
        )
        return SoupTrial(label, tuple(weights))

    def average(self, members: frozenset[int], *, keep_sum: bool) -> Path:
        """A new soup of these, made from all of them."""
        place = self.trials.scratch.place()
        chosen = [self.asked.ingredients[each] for each in sorted(members)]
        request = replace(self.asked.request, ingredients=chosen, output=place, keep_sum=keep_sum)
        average(request, execution=self._execution)
        return place

    def averaging(self, members: frozenset[int], place: Path) -> Callable[[], object]:
        """What another process calls to make a soup of these at a place."""
        chosen = [self.asked.ingredients[each] for each in sorted(members)]
        request = replace(self.asked.request, ingredients=chosen, output=place, keep_sum=False)
        return partial(average, request, force=True, execution=self._elsewhere)

    def adding(self, member: int, place: Path) -> Callable[[], object]:
        """What another process calls to make a soup of the members and one more at a place."""
        instead = self.averaging(self._members | {member}, place)
        revision = self._revision(member, place, keep_sum=False)
        return partial(_add_or, revision, instead, self._elsewhere)

    @property
    def _elsewhere(self) -> ExecutionOptions:
        """The options of a pass in another process."""
        options = self._execution or ExecutionOptions()
        return replace(options, threads=1, progress=ignore_progress)

    def add(self, member: int, *, keep_sum: bool = False) -> Path:
        """A new soup of the members and one more, which is all that is read besides their sum."""
        try:
            return self._add_to_sum(member, keep_sum=keep_sum)
        except MismatchError:
            # the configs of a component say less outside its pipeline than in it
            return self.average(self._members | {member}, keep_sum=keep_sum)

    def _add_to_sum(self, member: int, *, keep_sum: bool) -> Path:
        place = self.trials.scratch.place()
        revise(self._revision(member, place, keep_sum=keep_sum), execution=self._execution)
        return place

    def _revision(self, member: int, place: Path, *, keep_sum: bool) -> Revision:
        """The change that adds one more to the members."""
        assert self._soup is not None
        added, request = self.asked.ingredients[member], self.asked.request
        return Revision(
            "add",
            self._soup,
            place,
            added=[Addition(_component_path(added, request), added.weight)],
            again=True,
            expand=False,
            keep_sum=keep_sum,
            variant=request.variant,
        )

    def hold(self, members: frozenset[int]) -> None:
        """Make these the members, and their soup with its sum."""
        if self._soup is not None and self._members == members:
            return
        new = members - self._members
        if self._soup is not None and len(new) == 1 and self._members < members:
            made = self.add(*new, keep_sum=True)
        else:
            made = self.average(members, keep_sum=True)
        if self._soup is not None:
            self.trials.scratch.remove(self._soup)
        self._members, self._soup = members, made


def _add_or(revision: Revision, instead: Callable[[], object], execution: ExecutionOptions) -> None:
    """Make the changed soup, or what `instead` makes if the change is refused."""
    try:
        revise(revision, force=True, execution=execution)
    except MismatchError:
        # the configs of a component say less outside its pipeline than in it
        instead()


def _component_path(ingredient: Ingredient, request: Request) -> str | Path:
    """The path of the part of an ingredient that the soup is made of."""
    if request.component is None:
        return ingredient.path
    (only,) = find_input(ingredient.path, request.component, request.variant).components
    return only.path


def _singles(pot: _Pot) -> list[float]:
    """The score of each ingredient alone."""
    places = {pot.trial(one).key: one for one in map(_alone, range(len(pot.asked.ingredients)))}
    every = [pot.trial(_alone(place)) for place in range(len(pot.asked.ingredients))]

    def make(trials: Sequence[SoupTrial]) -> list[Path]:
        return [pot.average(places[each.key], keep_sum=False) for each in trials]

    def alone(trial: SoupTrial, place: Path) -> Callable[[], object]:
        return pot.averaging(places[trial.key], place)

    return [score for _, score in pot.trials.scores(every, make, alone=alone)]


def _alone(place: int) -> frozenset[int]:
    return frozenset((place,))


def _added(pot: _Pot, order: Sequence[int], best: float) -> tuple[tuple[int, ...], float]:
    """The places of the kept ingredients, and the score of their soup; `best` is the first's.

    As many as there are jobs are tried at once with the same members; of those that improve the
    score, the first is kept, and the rest are tried again with it.
    """
    members, place = [order[0]], 1
    while place < len(order):
        batch = order[place : place + pot.asked.scoring.jobs]
        scores = _tried(pot, members, batch)
        better = next(
            (n for n, score in enumerate(scores) if pot.asked.scoring.is_better(score, best)), None
        )
        if better is None:
            place += len(batch)
        else:
            members.append(batch[better])
            best = scores[better]
            place += better + 1
    return tuple(members), best


def _tried(pot: _Pot, members: Sequence[int], batch: Sequence[int]) -> list[float]:
    """The scores of the members with each of a batch."""
    trials = [pot.trial(frozenset((*members, place))) for place in batch]
    places = {trial.key: place for trial, place in zip(trials, batch, strict=True)}

    def make(some: Sequence[SoupTrial]) -> list[Path]:
        pot.hold(frozenset(members))
        return [pot.add(places[each.key]) for each in some]

    def alone(trial: SoupTrial, place: Path) -> Callable[[], object]:
        pot.hold(frozenset(members))
        return pot.adding(places[trial.key], place)

    return [score for _, score in pot.trials.scores(trials, make, alone=alone)]
