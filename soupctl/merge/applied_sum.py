"""The sum of a soup that deltas are applied in: its plan, and its record.

Rule 1: the sum is of BASE and the difference also where the soup is FINE, so that others can be
added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..errors import Issue, MismatchError
from ..frozen import frozen
from ..kinds.facts import TensorFacts
from .applied_plan import Delta, plan_applied
from .delta.reader import DeltaReader
from .kept_sum.format import NO_SUM
from .kept_sum.reader import Source
from .kept_sum.record import SumRecord, record_of_sources, summed_source
from .kept_sum.sum_weights import scaled_together
from .new_ledger import weights_by_block
from .plan import Plan
from .recipe import Recipe


@frozen
class SumRequest:
    """A sum to make: the recipe of its models and deltas, and these."""

    recipe: Recipe
    models: Sequence[Source]
    deltas: Sequence[Delta]
    facts: Sequence[TensorFacts]


def with_sum(
    plan: Plan, given: SumRequest
) -> tuple[Plan, tuple[Plan, Sequence[Source]] | None, SumRecord]:
    """The plan of a soup, the plan and sources of its sum if they are others, and its record.

    Raises UsageError for weights that are too fine for a sum, and MismatchError for a delta that
    has no difference of some tensor.
    """
    made, summed, scale = scaled_for_sum(plan, given)
    plan, sources = summed or (made, (*given.models, *given.deltas))
    record = record_of_sources(
        scale, [summed_source(plan, place, each) for place, each in enumerate(sources)]
    )
    return made, summed, record


def scaled_for_sum(
    plan: Plan, given: SumRequest, scale: Fraction | None = None
) -> tuple[Plan, tuple[Plan, Sequence[Source]] | None, Fraction]:
    """The plans of `with_sum`, and the scale of the sum: the smallest if none is given."""
    recipe, models = given.recipe, given.models
    deltas = [_plain(each) for each in given.deltas]
    is_fine = deltas != [*given.deltas]
    if is_fine:
        _require_differences(deltas)
    sources = (*models, *deltas)
    own = plan_applied(recipe, models, deltas, given.facts) if is_fine else plan
    globs = [glob for glob, _ in recipe.blocks]
    weights = weights_by_block(recipe)
    scaled, found = scaled_together(own, sources, weights, globs, len(models), scale)
    return (plan, (scaled, sources), found) if is_fine else (scaled, None, found)


def _plain(delta: Delta) -> Delta:
    """The delta as one of several."""
    is_fine = isinstance(delta, DeltaReader) and delta.gives_fine
    return delta.plain() if isinstance(delta, DeltaReader) and is_fine else delta


def _require_differences(deltas: Sequence[Delta]) -> None:
    """Raise MismatchError for tensors that a delta keeps whole."""
    issues = [
        Issue("is kept whole, without a difference to sum", each.label, name, NO_SUM)
        for each in deltas
        if isinstance(each, DeltaReader)
        for name in each.tensors
        if each.is_whole(name)
    ]
    if issues:
        raise MismatchError.collected(issues)
