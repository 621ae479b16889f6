"""Verifies a soup: by its header, by its digests, or by rebuilding it bit for bit.

Rule 1: the level says what was checked; nothing is called proven that was not checked.
Rule 2: a sum that lies beside a soup is part of it: a level holds if it holds for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import Component, ModelFiles
from ..checkpoints.open import find_input, require_same_components
from ..choices import Level
from ..errors import LedgerError, LimitError, SoupError
from ..ledger.ledger import Ledger
from ..ledger.locate import dtype_runs
from ..ledger.lookup import matching
from ..ledger.read import is_sum
from ..workers import ExecutionOptions
from .aligned import align
from .engine import engine_of
from .executor import execute
from .facts import facts_of_source
from .kept_sum.find import OpenedSum, as_sum, find_sum, open_sum, recorded_root
from .kept_sum.reader import soup_names
from .kept_sum.record import kept_runs, ordered_runs
from .kept_sum.survey import survey
from .kept_sum.writer import SumOutput
from .membership import require_ledger
from .opened_inputs import OpenedInputs, is_input, open_model
from .order import Order
from .plan import make_plan
from .recipe import is_partial, selector
from .sources import SEARCH, checkpoints_of, exact_sources, recipe_of, require_contents


@dataclass(frozen=True, slots=True)
class Verified:
    """The verification result of one component of a soup."""

    name: str
    path: str
    level: Level
    """The highest level that holds."""
    problem: str | None
    """Why no higher one holds, or was tried."""
    exact: bool | None
    """The exactness that the ledger states; None without a ledger."""
    refuted: bool = False
    """Whether it calls itself exact, and its ingredients make something else."""

    def reaches(self, level: Level | None) -> bool:
        """Whether it is proven to that level; None for its digest, and nothing against it."""
        return not self.refuted and self.level.holds(level or Level.DIGEST)


def verify(
    soup: str | Path,
    ingredients: Sequence[str | Path] = (),
    *,
    search: Sequence[Path] = (),
    level: Level | None = None,
    component: str | None = None,
    variant: str | None = None,
    execution: ExecutionOptions | None = None,
) -> tuple[Verified, ...]:
    """How far each component of a soup is proven, at most to `level`; None for the highest.

    `ingredients` are used before any that hints or `search` lead to. What is unreadable or not
    sound raises InputError; what does not hold is an answer.
    """
    model = find_input(soup, component, variant)
    with ExitStack() as stack:
        inputs = [OpenedInputs(stack, search, variant) for _ in model.components]
        opened = open_model(inputs, model)
        paths = _paths(ingredients, inputs, opened)
        others = [find_input(path, component, variant) for path in paths]
        require_same_components([model, *others])
        sums = None if component is not None else _sum_beside(inputs, model, opened)
        found = []
        for position, each in enumerate(model.components):
            given = [other.components[position] for other in others]
            beside = None if sums is None else sums[position]
            options = execution or ExecutionOptions()
            case = _Case(inputs[position], opened[position], beside, given, options)
            found.append(_verify(each.name, case, level or Level.REBUILD))
            case.soup.require_unchanged()
        return tuple(found)


def _paths(
    ingredients: Sequence[str | Path], inputs: Sequence[OpenedInputs], opened: Sequence[Checkpoint]
) -> list[str | Path]:
    """The ingredients that are given as paths; others are digests or names in the ledger."""
    ledgers = []
    for each, checkpoint in zip(inputs, opened, strict=True):
        # the unsound ledger is reported for the soup itself
        with suppress(LedgerError):
            ledgers.append(each.ledger(checkpoint))
    return [
        each
        for each in ingredients
        if is_input(str(each))
        or not any(
            matching(str(each), ledger.ingredients, ledger.ancestors)
            for ledger in ledgers
            if ledger is not None
        )
    ]


def _sum_beside(
    inputs: Sequence[OpenedInputs], model: ModelFiles, opened: Sequence[Checkpoint]
) -> tuple[Component, ...] | None:
    try:
        ledgers = [each.ledger(checkpoint) for each, checkpoint in zip(inputs, opened, strict=True)]
    except LedgerError:
        # the unsound ledger is reported for the soup itself
        return None
    return find_sum(model, list(map(recorded_root, opened, ledgers)))


@dataclass(frozen=True, slots=True)
class _Case:
    """A component of a soup that is to be proven, and what there is to prove it with."""

    inputs: OpenedInputs
    soup: Checkpoint
    beside: Component | None
    """The sum that lies beside it."""
    given: Sequence[Component]
    execution: ExecutionOptions

    def sum(self, ledger: Ledger) -> OpenedSum | None:
        """The soup's sum, if it has one or is one; LedgerError if it does not fit."""
        if is_sum(self.soup):
            return as_sum(self.soup, ledger)
        if self.beside is None:
            return None
        return open_sum(self.inputs, self.beside, self.soup, ledger)


def _verify(name: str, case: _Case, wanted: Level) -> Verified:
    """How far one component is proven, level by level until one does not hold."""
    level, problem, ledger, refuted = Level.NOTHING, None, None, False
    soup = case.soup
    try:
        ledger = case.inputs.ledger(soup)
        if ledger is None:
            raise LedgerError("has no ledger: it is not a soup", path=soup.label)
        kept = case.sum(ledger)
        _require_dtypes(soup, ledger)
        level = Level.HEADER
        if wanted is not Level.HEADER:
            require_ledger(case.inputs, soup)
            if kept is not None and case.beside is not None:
                require_ledger(case.inputs, kept.reader.checkpoint)
            level = Level.DIGEST
        if wanted is Level.REBUILD:
            problem = _difference(case, ledger, kept)
            refuted = ledger.exact and problem is not None
            level = Level.DIGEST if problem else Level.REBUILD
    except LimitError:
        # that says nothing of the soup
        raise
    except SoupError as error:
        problem = error.message()
    exact = None if ledger is None else ledger.exact
    return Verified(name, soup.label, level, problem, exact, refuted)


def _require_dtypes(soup: Checkpoint, ledger: Ledger) -> None:
    if not is_sum(soup) and dtype_runs(soup) != ledger.dtypes:
        raise LedgerError("its ledger describes tensors of other dtypes", path=soup.label)


def _difference(case: _Case, ledger: Ledger, kept: OpenedSum | None) -> str | None:
    """How the rebuilt soup or sum differs; SoupError if an ingredient is missing."""
    engine, execution = engine_of(case.execution)
    for component in case.given:
        case.inputs.offer(component, ledger, case.soup.label)
    first = ledger.integer_source.digest if ledger.integer_source else None
    sources = exact_sources(case.inputs, case.soup, ledger.ingredients, first, SEARCH)
    checkpoints = checkpoints_of(sources)
    recipe = recipe_of(
        ledger, [source.weight for source in sources], first=ledger.integer_source is not None
    )
    alignment = align(
        checkpoints, selector(recipe), soup_names(case.soup), is_partial=is_partial(recipe)
    )
    plan = make_plan(
        recipe,
        [source.label for source in alignment.sources],
        [source.tensors for source in alignment.sources],
        facts=[facts_of_source(source) for source in alignment.sources],
    )
    sums = None
    if kept is not None:
        plan = kept.rescaled(plan, [source.weight for source in sources])
        sums = SumOutput(survey(plan, alignment.sources, engine, execution), _discard)
    (outcome,) = execute([Order(plan, alignment.sources, _discard, sums)], engine, execution)
    require_contents(sources, outcome)
    if outcome.soup != ledger.root:
        return f"{case.soup.label}: is not what its ingredients make"
    if kept is not None:
        dtypes = {source.digest: kept_runs(plan, index) for index, source in enumerate(sources)}
        if (outcome.sum, ordered_runs(dtypes, ledger)) != (kept.facts.root, kept.facts.dtypes):
            return f"{kept.label}: is not the sum of the soup's ingredients"
    return None


def _discard(tensor: str, offset: int, data: memoryview) -> None:
    """Take bytes that only their digest is wanted of."""
