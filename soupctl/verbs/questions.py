"""What can be asked of a soup: what is in it, how it came about, whether that is true.

Rule 1: an answer says what was looked at to give it; nothing is called proven that was not checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..errors import LedgerError, SoupError
from ..execute import execute
from ..pace import Pace
from ..soup.choices import Level, OnInt
from ..soup.ledger import Entry, Ledger
from ..soup.plan import make_plan
from ..soup.recipe import Recipe
from ..storage.checkpoint import Checkpoint
from ..storage.layout import Component
from .inputs import find_input, open_input, read_ledger, require_same_components
from .locate import Places, dtype_runs
from .membership import ledger_of
from .sources import (
    Finder,
    Leaver,
    exact_sources,
    folder_of,
    is_input,
    require_contents,
    resolve,
)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was proven of one component of a soup."""

    name: str
    path: str
    level: Level
    """The highest level that holds."""
    problem: str | None
    """Why no higher one holds, or was tried."""
    exact: bool | None
    """What the ledger says; None if there is none."""
    refuted: bool = False
    """Whether it calls itself exact, and its ingredients make something else."""

    def reaches(self, level: Level | None) -> bool:
        """Whether it is proven to that level; None for its digest, and nothing against it."""
        return not self.refuted and self.level.holds(level or Level.DIGEST)


def holds(soup: str | Path, what: str, *, component: str | None = None) -> tuple[Entry, ...] | None:
    """The entry of an ingredient in each component of a soup; None if one does not hold it.

    `what` is a path, a content digest or a name in the ledger. Raises LedgerError for a soup
    without a ledger or with one that does not fit its tensors, and for a name of several.
    """
    model = find_input(soup, component)
    other = find_input(what, component) if is_input(what) else None
    if other is not None:
        require_same_components([model, other])
    found = []
    with ExitStack() as stack:
        for position, each in enumerate(model.components):
            ledger = ledger_of(stack.enter_context(open_input(each)))
            leaver = Leaver(None if other is None else other.components[position], what, None)
            known = {text for entry in ledger.ingredients for text in (entry.digest, entry.name)}
            if other is None and what not in known:
                return None
            digest, _ = resolve(stack, ledger, leaver)
            entries = [entry for entry in ledger.ingredients if entry.digest == digest]
            if not entries:
                return None
            found.append(entries[0])
    return tuple(found)


def history(
    soup: str | Path, *, component: str | None = None, variant: str | None = None
) -> tuple[tuple[str, Ledger], ...]:
    """Path and ledger of each component of a soup, from headers alone.

    Raises LedgerError for a component without a sound ledger.
    """
    found = []
    for each in find_input(soup, component, variant).components:
        with open_input(each, mapped=False) as checkpoint:
            ledger = read_ledger(checkpoint)
            if ledger is None:
                raise LedgerError("has no ledger: it is no soup", path=checkpoint.shown)
            found.append((checkpoint.shown, ledger))
    return tuple(found)


def verify(
    soup: str | Path,
    ingredients: Sequence[str | Path] = (),
    *,
    search: Sequence[Path] = (),
    level: Level | None = None,
    component: str | None = None,
    variant: str | None = None,
    pace: Pace | None = None,
) -> tuple[Verified, ...]:
    """How far each component of a soup is proven, at most to `level`; None for as far as it goes.

    `ingredients` are used before any that hints or `search` lead to. What is unreadable or not
    sound raises InputError; what does not hold is an answer.
    """
    model = find_input(soup, component, variant)
    others = [find_input(path, component, variant) for path in ingredients]
    require_same_components([model, *others])
    found = []
    for position, each in enumerate(model.components):
        with ExitStack() as stack:
            checkpoint = stack.enter_context(open_input(each))
            given = [other.components[position] for other in others]
            finder = Finder(stack, {}, Places(folder_of(checkpoint), tuple(search), variant))
            wanted = level or Level.REBUILD
            found.append(_verify(each.name, checkpoint, given, finder, wanted, pace or Pace()))
            checkpoint.require_unchanged()
    return tuple(found)


def _verify(
    name: str,
    soup: Checkpoint,
    given: Sequence[Component],
    finder: Finder,
    wanted: Level,
    pace: Pace,
) -> Verified:
    """How far one component is proven, level by level until one does not hold."""
    level, problem, ledger, refuted = Level.NOTHING, None, None, False
    try:
        ledger = read_ledger(soup)
        if ledger is None:
            raise LedgerError("has no ledger: it is no soup", path=soup.shown)
        _require_dtypes(soup, ledger)
        level = Level.HEADER
        if wanted is not Level.HEADER:
            ledger_of(soup)
            level = Level.DIGEST
        if wanted is Level.REBUILD:
            if _rebuilt(ledger, given, finder, pace, soup.shown) == ledger.root:
                level = Level.REBUILD
            else:
                refuted = ledger.exact
                problem = f"{soup.shown}: is not what its ingredients make"
    except SoupError as error:
        problem = error.message()
    exact = None if ledger is None else ledger.exact
    return Verified(name, soup.shown, level, problem, exact, refuted)


def _require_dtypes(soup: Checkpoint, ledger: Ledger) -> None:
    if dtype_runs(soup) != ledger.dtypes:
        raise LedgerError("its ledger describes tensors of other dtypes", path=soup.shown)


def _rebuilt(
    ledger: Ledger, given: Sequence[Component], finder: Finder, pace: Pace, shown: str
) -> str:
    """The content digest of what the ingredients make; SoupError if they cannot be had."""
    # numba comes with it, and only this level computes
    from ..engines.cpu import CpuEngine

    for component in given:
        finder.offer(component, ledger, shown)
    sources = exact_sources(
        finder, ledger.ingredients, ledger.taken.digest if ledger.taken else None
    )
    recipe = Recipe(
        weights=tuple(source.weight for source in sources),
        dtype=ledger.asked_dtype,
        keys=ledger.keys,
        excludes=ledger.excludes,
        on_int=OnInt.FIRST if ledger.taken else OnInt.REFUSE,
        allow_nonfinite=ledger.allow_nonfinite,
    )
    checkpoints = [source.checkpoint for source in sources]
    names = [checkpoint.shown for checkpoint in checkpoints]
    plan = make_plan(recipe, names, [checkpoint.tensors for checkpoint in checkpoints])
    outcome = execute(plan, checkpoints, CpuEngine(), _discard, pace)
    require_contents(sources, outcome)
    return outcome.soup


def _discard(tensor: str, offset: int, data: memoryview) -> None:
    """Take bytes that only their digest is wanted of."""
