"""How one component of a changed soup is computed: from its sum, its ingredients, or itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from ..choices import Method
from ..frozen import frozen
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
    known = replace(before, blocks=members.blocks)
    keeps_sum = change.revision.keeps_sum(has_sum=members.sum is not None)
    changed = _ChangedSoup(change, known, _sources(change, members), keeps_sum)
    return changed.with_deltas() if before.is_applied else changed.of_mean()


@frozen
class _ChangedSoup:
    """A component after the change, which is computed from `sources`."""

    change: ComponentChange
    before: Ledger
    """The ledger before the change, with the blocks that have weights of their own after it."""
    sources: Sequence[Source]
    keeps_sum: bool

    @property
    def takes_integers_of_first(self) -> bool:
        """Whether integers that differ are those of the first source."""
        # a soup without a ledger does not record the source of its integers
        return self.before.integer_source is not None or self.change.revision.total is not None

    @property
    def method(self) -> Method:
        """What the result is computed from."""
        return Method.ROUNDED if self.change.revision.rounded else Method.INGREDIENTS

    def with_deltas(self) -> Computation:
        """The computation of a soup that deltas or adapters are applied in."""
        with explained_by_digests(self.sources):
            plan, alignment, given = plan_again(
                self.before,
                self.sources,
                self.change.soup,
                first=self.takes_integers_of_first,
                placed=self.change.placed,
            )
        summed, scale = None, Fraction(1)
        if self.keeps_sum:
            plan, summed, scale = scaled_for_sum(plan, given)
        return Computation(self.method, tuple(self.sources), plan, scale, alignment, summed=summed)

    def of_mean(self) -> Computation:
        """The computation of any other soup; removed ingredients do not affect its dtype."""
        recipe, sources = self._recipe(), self.sources
        weights = [source.weights for source in sources if not source.is_donor]
        deciding = [n for n, each in enumerate(weights) if max((each.usual, *each.blocks)) > 0]
        alignment = aligned_sources(sources, recipe, soup_names(self.change.soup))
        with explained_by_digests(sources):
            plan = plan_aligned(
                recipe, alignment, deciding if self.change.revision.rounded else None
            )
            require_identical(plan, alignment.sources)
        scale = smallest_scale(weights, normalize=self.before.normalize)
        if recipe.blocks and self.keeps_sum:
            plan = scaled_by_block(plan, recipe, scale)
        return Computation(self.method, tuple(sources), plan, scale, alignment, recipe.takes)

    def _recipe(self) -> Recipe:
        """The recipe of the change, with the tensors that the soup took from donors."""
        before, first = self.before, self.takes_integers_of_first
        if not self.change.revision.rounded:
            return recipe_of(before, self.sources, first=first)
        recipe = recipe_of(replace(before, takes=()), self.sources, first=first)
        # the tensors that were taken are in the rounded soup, which is the first source
        return replace(recipe, takes=tuple((glob, 0) for glob, _ in before.takes))


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
