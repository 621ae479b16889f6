"""The passes of a rebuild: what the sources of a soup make, digested and written nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import Component
from ..frozen import frozen
from ..ledger.ledger import Ledger
from ..workers import ExecutionOptions
from .aligned import Alignment, plan_aligned
from .applied_sources import plan_again
from .applied_sum import SumRequest, scaled_for_sum
from .donors import aligned_sources
from .engine import engine_of
from .executor import execute
from .kept_sum.opened import OpenedSum
from .kept_sum.reader import Source as AnySource
from .kept_sum.reader import soup_names
from .kept_sum.survey import survey
from .kept_sum.writer import SumOutput
from .methods.rebuild import as_named, plan_merge_again
from .opened_inputs import OpenedInputs
from .order import Order, Outcome, announce
from .plan import Plan
from .recipe import Recipe
from .sources import Source, recipe_of, require_contents

Pass = Callable[[Order], Outcome]
"""Carries out an order that keeps no sum and finds no ratios."""
Summed = tuple[Plan, Sequence[AnySource]]
"""The plan and sources of a sum."""


@frozen
class RebuildRequest:
    """A component of a soup to rebuild, with the open inputs and options."""

    inputs: OpenedInputs
    soup: Checkpoint
    given: Sequence[Component]
    execution: ExecutionOptions
    elsewhere: Pass | None = None
    """Carries out the pass over the ingredients in other processes; None for this one."""


@frozen
class PlannedPass:
    """The plan of what some sources make."""

    plan: Plan
    alignment: Alignment
    contents: tuple[Source, ...]
    """The sources with the contents that they must have, in the order of the plan."""
    recipe: Recipe | None = None
    """The recipe of a mean."""
    given: SumRequest | None = None
    """The sum to make where deltas are added."""

    @property
    def order(self) -> Order:
        """The order to the executor."""
        return Order(self.plan, self.alignment.sources, _discard)


@frozen
class MadeAgain:
    """The soup that some sources make."""

    plan: Plan
    soup: Outcome
    scaled: Outcome | None
    """The sum, with the scale of the kept one."""
    alignment: Alignment
    summed: Summed
    """The plan and sources of the sum."""
    takes: tuple[tuple[str, int], ...]
    """Globs with the index of the source whose tensors are taken."""


def planned_pass(soup: Checkpoint, sources: Sequence[Source], ledger: Ledger) -> PlannedPass:
    """The plan by which the sources make a soup again, as its ledger describes it."""
    if ledger.method is not None:
        sources = as_named(sources, ledger)
        plan, alignment = plan_merge_again(ledger, sources, soup)
        return PlannedPass(plan, alignment, tuple(sources))
    first = ledger.integer_source is not None
    if ledger.is_applied:
        plan, alignment, given = plan_again(ledger, sources, soup, first=first)
        return PlannedPass(plan, alignment, tuple(sources), given=given)
    recipe = recipe_of(ledger, sources, first=first)
    alignment = aligned_sources(sources, recipe, soup_names(soup))
    plan = plan_aligned(recipe, alignment)
    return PlannedPass(plan, alignment, tuple(sources), recipe)


def make_again(
    request: RebuildRequest,
    sources: Sequence[Source],
    ledger: Ledger,
    kept: OpenedSum | None = None,
) -> MadeAgain:
    """The soup that the sources make, and separately their sum with the scale of the kept one.

    Raises LedgerError for sources with other content than the ledger records.
    """
    engine, execution = engine_of(request.execution)
    planned = planned_pass(request.soup, sources, ledger)
    orders = [planned.order]
    announce(planned.alignment.sources, planned.plan)
    summed: Summed = (planned.plan, planned.alignment.sources)
    if kept is not None and ledger.method is None:
        scaled, summed = _sums_of(planned, kept)
        announce(scaled[1], scaled[0])
        forms = survey(*scaled, engine, execution)
        orders.append(Order(*scaled, _discard, SumOutput(forms, _discard)))
    if request.elsewhere is not None and len(orders) == 1 and ledger.method is None:
        outcomes = [request.elsewhere(*orders)]
    else:
        outcomes = [*execute(orders, engine, execution)]
    outcome, *others = outcomes
    require_contents(planned.contents, outcome)
    takes = () if planned.recipe is None else planned.recipe.takes
    return MadeAgain(
        planned.plan, outcome, others[0] if others else None, planned.alignment, summed, takes
    )


def _sums_of(planned: PlannedPass, kept: OpenedSum) -> tuple[Summed, Summed]:
    """The plan and sources by which the sum is made again, and those that its record describes."""
    sources = planned.alignment.sources
    if planned.given is None:
        assert planned.recipe is not None
        scaled = (kept.rescaled(planned.plan, planned.recipe), sources)
        return scaled, (planned.plan, sources)
    plan, apart, _ = scaled_for_sum(planned.plan, planned.given, kept.scale)
    summed = apart or (plan, sources)
    return summed, summed


def _discard(tensor: str, offset: int, data: memoryview) -> None:
    """Discard bytes of which only the digest is needed."""
