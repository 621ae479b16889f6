"""The effect of each ingredient of a soup on a score: that of the soup with and without it.

Rule 1: a soup without an ingredient is, byte for byte, that of `subtract` without a kept sum.
Rule 2: as many of these soups as the disk has room for are made in one pass, which reads each
ingredient once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..checkpoints.layout import SUFFIXES
from ..checkpoints.open import STREAM, find_input
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.ledger import Ledger
from ..merge.leave_one_out import NAME, LeaveOneOut, Variant, open_family
from ..merge.rounds import arrange
from ..merge.run import carry_out_together
from ..storage.files import free_space
from ..workers import ExecutionOptions
from .journal_facts import JournaledIngredient
from .scorer import Scoring
from .trials import Report, SoupTrial, Trials, open_trials

COMMAND = "rank"
KEPT, LEFT_OUT = "1", "0"
SHARE_OF_DISK = 2
"""Candidates may take one part in this many of the free space."""


@frozen
class Rank:
    """A soup whose ingredients are to be ranked."""

    soup: str | Path
    scoring: Scoring
    search: tuple[Path, ...] = ()
    """Folders to search for ingredients that are not at the ledger's hints."""
    component: str | None = None
    variant: str | None = None
    resume: bool = False
    """Whether the scores in an existing journal are used."""

    def __post_init__(self) -> None:
        """Raise UsageError for standard input."""
        if self.soup == STREAM:
            what = "the journal is kept beside the soup, which must be a file or a folder"
            raise UsageError(what, advice="name its file")

    @property
    def family(self) -> LeaveOneOut:
        """The soups without one ingredient each, beside the soup."""
        return self.family_in(Path(f"without-{NAME}"))

    def family_in(self, template: Path) -> LeaveOneOut:
        """The soups without one ingredient each, at the paths of a template."""
        return LeaveOneOut(
            self.soup,
            str(template),
            self.search,
            component=self.component,
            variant=self.variant,
        )


@frozen
class IngredientEffect:
    """The effect of an ingredient on the score of its soup."""

    name: str
    """In the ledger of the soup."""
    without: float
    """The score of the soup without it."""
    effect: float
    """How much better the score is with it; negative if it harms."""


@frozen
class Ranking:
    """The ingredients of a soup, the most useful first."""

    score: float
    """The score of the soup with all of them."""
    effects: tuple[IngredientEffect, ...]


def rank(
    asked: Rank,
    *,
    force: bool = False,
    execution: ExecutionOptions | None = None,
    report: Report = lambda scored: None,
) -> Ranking:
    """Score the soup, and the soup without each ingredient.

    `force` replaces the journal unless it is resumed. `report` is called with every score. Raises
    ScorerError if a soup gets no score, and what `open_family` and `carry_out_together` raise; the
    journal then has all scores so far.
    """
    scoring = asked.scoring
    with open_family(asked.family) as members:
        names = [member.name for member in members]
        size = max(member.job.size for member in members)
        roots = {each.inputs.name: _root(each.draft) for each in members[0].job.components}
    soup = find_input(asked.soup, asked.component, asked.variant)
    options = {"component": asked.component, "soup": roots, "variant": asked.variant}
    with open_trials(
        Path(asked.soup),
        COMMAND,
        scoring,
        lambda: [JournaledIngredient(name, KEPT, ()) for name in names],
        options,
        report,
        resume=asked.resume,
        replace=force,
    ) as trials:
        whole = SoupTrial(soup.label, (KEPT,) * len(names))
        place = soup.folder or soup.components[0].path
        ((_, score),) = trials.scores([whole], lambda some: [place])
        without = {_left_out(name, names).key: name for name in names}
        maker = _Maker(asked, trials, without, execution)
        free = (free_space(Path(os.path.abspath(asked.soup)).parent) or 0) // SHARE_OF_DISK
        every = [_left_out(name, names) for name in names]
        found = trials.scores(every, maker.make, at_once=max(1, free // max(size, 1)))
        effects = [_effect(without[trial.key], one, score, scoring) for trial, one in found]
    effects.sort(key=lambda each: (-each.effect, each.name))
    return Ranking(score, tuple(effects))


def _root(draft: Ledger) -> str:
    """The content digest of the soup that an ingredient is left out of."""
    return draft.chain[-1].root


def _left_out(name: str, names: Sequence[str]) -> SoupTrial:
    weights = tuple(LEFT_OUT if each == name else KEPT for each in names)
    return SoupTrial(f"without {name}", weights)


def _effect(name: str, without: float, whole: float, scoring: Scoring) -> IngredientEffect:
    effect = without - whole if scoring.minimize else whole - without
    return IngredientEffect(name, without, effect)


@frozen
class _Maker:
    """Makes the soups without one ingredient each."""

    asked: Rank
    trials: Trials
    names: dict[str, str]
    """The ingredient that each trial leaves out, by the trial's key."""
    execution: ExecutionOptions | None

    def make(self, some: Sequence[SoupTrial]) -> list[Path]:
        """The soups of these trials, made in one pass."""
        place = self.trials.scratch.place()
        suffix = Path(self.asked.soup).suffix
        ending = suffix if suffix in SUFFIXES else ""
        template = place.with_name(f"{place.stem}-{NAME}{ending}")
        with open_family(self.asked.family_in(template)) as members:
            chosen: dict[str, Variant] = {member.name: member for member in members}
            jobs = [chosen[self.names[each.key]].job for each in some]
            options = self.execution or ExecutionOptions()
            rounds = arrange(jobs, options.threads, options.max_memory)
            carry_out_together(rounds, execution=self.execution)
            return [_path_of(job.destination.path) for job in jobs]


def _path_of(path: Path | None) -> Path:
    assert path is not None
    return path
