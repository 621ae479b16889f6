"""Scoring candidates once: what the journal knows is not made again.

Rule 1: the scores of a command depend on its candidates alone, so a resumed command takes the same
decisions as one that ran through.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checkpoints.hashing import remembering_digests
from ..checkpoints.open import STREAM
from ..cluster.workers import Workers
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.sealed import canonical
from ..merge.average import Request
from ..merge.ingredients import as_ingredient
from .command import CommandScorer
from .function import FunctionScorer
from .journal import Journal, open_journal
from .journal_facts import JournaledIngredient, journaled, plain
from .scorer import Candidate, Scorer, Scoring
from .scratch import ScratchFolder, scratch_folder


@frozen
class SoupTrial:
    """A soup that may be the best one, by the weights of all ingredients."""

    label: str
    weights: tuple[Any, ...]
    """A text for each ingredient, `0` for one that is left out; or a list of texts, by block."""

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return canonical(list(self.weights))


@frozen
class Scored:
    """A trial with its score."""

    trial: SoupTrial
    score: float
    is_recorded: bool
    """Whether the score is from the journal of an earlier run."""


Report = Callable[[Scored], None]
"""Called with every score when it is known."""
Make = Callable[[Sequence[SoupTrial]], Sequence[Path]]
"""Makes the soups of trials, and returns their paths."""
MakeAlone = Callable[[SoupTrial, Path], Callable[[], object]]
"""Returns what makes the soup of one trial at a path: a value that another process can call."""


@frozen
class CandidateTask:
    """A candidate that a worker makes and scores."""

    label: str
    path: Path
    make: Callable[[], object]
    """Makes it at that path, also where an earlier attempt has."""
    scoring: Scoring


def score_candidate(task: CandidateTask) -> float:
    """On a worker: the score of a candidate, which is made first; ScorerError if it gets none."""
    task.make()
    scores: list[float] = []
    open_scorer(task.scoring).score(
        [Candidate(task.label, task.path)], lambda _, score: scores.append(score)
    )
    return scores[0]


class Trials:
    """Scores trials, as many at once as jobs are allowed."""

    def __init__(
        self,
        scoring: Scoring,
        journal: Journal,
        scratch: ScratchFolder,
        report: Report,
    ) -> None:
        self.workers: Workers | None = None
        """Make and score candidates; None for this process."""
        self.scoring = scoring
        self.scratch = scratch
        self._scorer: Scorer = open_scorer(scoring)
        self._journal = journal
        self._report = report

    def scores(
        self,
        trials: Sequence[SoupTrial],
        make: Make,
        at_once: int = 1,
        alone: MakeAlone | None = None,
    ) -> Iterator[tuple[SoupTrial, float]]:
        """Each trial with its score; `make` makes the soups of those that the journal lacks.

        At least `at_once` and as many as there are jobs are made together; each is removed when it
        is scored. Workers make each as `alone` says. Raises ScorerError, and what `make` raises;
        scores that are known by then are recorded.
        """
        if self.workers is not None and alone is not None:
            yield from self._scored_on(self.workers, trials, alone)
            return
        size = max(at_once, self.scoring.jobs)
        for start in range(0, len(trials), size):
            group = trials[start : start + size]
            new = [*{x.key: x for x in group if self._journal.get(x.key) is None}.values()]
            made = dict(zip((each.key for each in new), make(new) if new else (), strict=True))
            for first in range(0, len(group), self.scoring.jobs):
                batch = group[first : first + self.scoring.jobs]
                yield from zip(batch, self._scores(batch, made), strict=True)
                for each in batch:
                    if each.key in made:
                        self.scratch.remove(made.pop(each.key))

    def _scored_on(
        self, workers: Workers, trials: Sequence[SoupTrial], alone: MakeAlone
    ) -> Iterator[tuple[SoupTrial, float]]:
        """Each trial with its score; workers make and score those that the journal lacks."""
        unknown = [*{x.key: x for x in trials if self._journal.get(x.key) is None}.values()]
        places = [self.scratch.place() for _ in unknown]
        tasks = [
            CandidateTask(each.label, place, alone(each, place), self.scoring)
            for each, place in zip(unknown, places, strict=True)
        ]
        for number, score in workers.call(score_candidate, tasks, lambda task: task.label):
            self._journal.record(unknown[number].key, score)
            self._report(Scored(unknown[number], score, is_recorded=False))
            self.scratch.remove(places[number])
        for each in trials:
            score = self._known(each)
            if each not in unknown:
                self._report(Scored(each, score, is_recorded=True))
            yield each, score

    def _known(self, trial: SoupTrial) -> float:
        """The score of a trial that the journal has."""
        score = self._journal.get(trial.key)
        assert score is not None
        return score

    def _scores(self, batch: Sequence[SoupTrial], made: Mapping[str, Path]) -> list[float]:
        """The scores of trials, all scored at once; `made` has the soups of the unknown ones."""
        unknown = [*{x.key: x for x in batch if self._journal.get(x.key) is None}.values()]

        def record(number: int, score: float) -> None:
            self._journal.record(unknown[number].key, score)
            self._report(Scored(unknown[number], score, is_recorded=False))

        if unknown:
            self._scorer.score([Candidate(x.label, made[x.key]) for x in unknown], record)
        scores = []
        for each in batch:
            score = self._known(each)
            scores.append(score)
            if each not in unknown:
                self._report(Scored(each, score, is_recorded=True))
        return scores


def require_files(output: str | Path, ingredients: Iterable[str | Path]) -> None:
    """Raise UsageError for standard output, and for standard input among the ingredients."""
    if output == STREAM:
        what = "the journal is kept beside the output, which must be a file or a folder"
        raise UsageError(what, advice="name one with -o")
    if STREAM in ingredients:
        what = "standard input can be read once, and candidates are made of it several times"
        raise UsageError(what, advice="name a file")


def open_scorer(scoring: Scoring) -> Scorer:
    """The scorer; UsageError if there is no such function, or no place in the command."""
    if scoring.command is not None:
        return CommandScorer(scoring.command, scoring.timeout)
    assert scoring.function is not None
    return FunctionScorer(scoring.function)


@contextmanager
def open_trials(
    output: Path,
    command: str,
    scoring: Scoring,
    contents: Callable[[], Sequence[JournaledIngredient]],
    options: Mapping[str, Any],
    report: Report,
    *,
    resume: bool,
    replace: bool,
) -> Iterator[Trials]:
    """The trials of a command, whose journal and scratch folder lie beside `output`.

    Raises the errors of `open_scorer`, `open_journal` and `scratch_folder`.
    """
    open_scorer(scoring)
    with remembering_digests():
        facts = {
            "command": command,
            "ingredients": [each.facts for each in contents()],
            "options": {**options, "minimize": scoring.minimize},
            "scorer": plain(scoring.name),
        }
        path = journal_path(output, command)
        with (
            open_journal(path, facts, resume=resume, replace=replace) as journal,
            scratch_folder(output, command) as scratch,
        ):
            yield Trials(scoring, journal, scratch, report)


@contextmanager
def open_choice(
    request: Request,
    command: str,
    scoring: Scoring,
    options: Mapping[str, Any],
    report: Report,
    *,
    resume: bool,
    replace: bool,
) -> Iterator[tuple[tuple[JournaledIngredient, ...], Trials]]:
    """The contents of the ingredients of a soup that is chosen, and the trials.

    Raises the errors of `open_trials`.
    """
    found: list[JournaledIngredient] = []

    def contents() -> Sequence[JournaledIngredient]:
        place = (request.component, request.variant)
        every = map(as_ingredient, request.ingredients)
        found.extend(journaled(each.path, str(each.weight), *place) for each in every)
        return found

    with open_trials(
        Path(request.output),
        command,
        scoring,
        contents,
        options,
        report,
        resume=resume,
        replace=replace,
    ) as trials:
        yield tuple(found), trials


def journal_path(output: str | Path, command: str) -> Path:
    """The path of the journal beside an output."""
    path = Path(os.path.normpath(output))
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))
    return path.with_name(f"{path.name}.{command}.jsonl")
