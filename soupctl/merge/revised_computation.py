"""How one component of a changed soup is computed: from its sum, its ingredients, or itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from ..choices import Method
from ..ledger.changes import changes
from ..ledger.ledger import Ledger
from .aligned import plan_aligned
from .applied_sources import first_of, plan_again
from .applied_sum import scaled_for_sum
from .donors import aligned_sources
from .identical import require_identical
from .kept_sum.by_block import scaled_by_block
from .kept_sum.format import smallest_scale
from .kept_sum.reader import soup_names
from .kept_sum.update import computed_from_sum
from .membership import Membership
from .recipe import Recipe
from .revision import ComponentChange
from .sources import (
    BEYOND_THE_SUM,
    WAYS_OUT,
    Computation,
    Source,
    exact_sources,
    explained_by_digests,
    recipe_of,
    rounded_sources,
)


def computation_of(change: ComponentChange, members: Membership) -> Computation:
    """The planned computation of a component after the change; LedgerError for a missing source."""
    before, rounded = members.before, change.revision.rounded
    if not rounded:
        found = computed_from_sum(change.inputs, change.soup, members, change.placed)
        if found is not None:
            return found
    sources = _sources(change, members)
    # a soup without a ledger does not record the source of its integers
    first = before.integer_source is not None or change.revision.total is not None
    keeps_sum = change.revision.keeps_sum(has_sum=members.sum is not None)
    known = replace(before, blocks=members.blocks)
    if before.is_applied:
        return _with_deltas(change, known, sources, first=first, keeps_sum=keeps_sum)
    return _of_mean(change, known, sources, first=first, keeps_sum=keeps_sum)


def _sources(change: ComponentChange, members: Membership) -> Sequence[Source]:
    """The inputs of the computation: the ingredients, or the rounded soup and what changes."""
    revision, before, after = change.revision, members.before, members.after
    if revision.approximate and revision.total is None:
        changed = changes(before.ingredients, after)
        return rounded_sources(change.inputs, change.soup, before, changed)
    # differing integers are those of the first ingredient, the same one as before if it is still
    # there
    first = first_of(before) if revision.total is None else before.root
    advice = WAYS_OUT if members.sum is None else BEYOND_THE_SUM
    return exact_sources(change.inputs, change.soup, after, first, advice, before.donors)


def _with_deltas(
    change: ComponentChange,
    before: Ledger,
    sources: Sequence[Source],
    *,
    first: bool,
    keeps_sum: bool,
) -> Computation:
    """The computation of a soup that deltas or adapters are applied in."""
    with explained_by_digests(sources):
        plan, alignment, given = plan_again(
            before, sources, change.soup, first=first, placed=change.placed
        )
    summed, scale = None, Fraction(1)
    if keeps_sum:
        plan, summed, scale = scaled_for_sum(plan, given)
    method = _method(change)
    return Computation(method, tuple(sources), plan, scale, alignment, summed=summed)


def _of_mean(
    change: ComponentChange,
    before: Ledger,
    sources: Sequence[Source],
    *,
    first: bool,
    keeps_sum: bool,
) -> Computation:
    """The computation of any other soup; removed ingredients do not affect its dtype."""
    recipe = _recipe(change, before, sources, first=first)
    weights = [source.weights for source in sources if not source.is_donor]
    deciding = [place for place, each in enumerate(weights) if max((each.usual, *each.blocks)) > 0]
    alignment = aligned_sources(sources, recipe, soup_names(change.soup))
    with explained_by_digests(sources):
        plan = plan_aligned(recipe, alignment, deciding if change.revision.rounded else None)
        require_identical(plan, alignment.sources)
    scale = smallest_scale(weights, normalize=before.normalize)
    if recipe.blocks and keeps_sum:
        plan = scaled_by_block(plan, recipe, scale)
    return Computation(_method(change), tuple(sources), plan, scale, alignment, recipe.takes)


def _recipe(
    change: ComponentChange, before: Ledger, sources: Sequence[Source], *, first: bool
) -> Recipe:
    """The recipe of the change, with the tensors that the soup took from donors."""
    if not change.revision.rounded:
        return recipe_of(before, sources, first=first)
    recipe = recipe_of(replace(before, takes=()), sources, first=first)
    # the tensors that were taken are in the rounded soup, which is the first source
    return replace(recipe, takes=tuple((glob, 0) for glob, _ in before.takes))


def _method(change: ComponentChange) -> Method:
    return Method.ROUNDED if change.revision.rounded else Method.INGREDIENTS
