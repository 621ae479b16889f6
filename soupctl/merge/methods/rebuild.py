"""The plan of a soup that a method made, from its ledger and its ingredients found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...checkpoints.checkpoint import Checkpoint
from ...ledger.ledger import Ledger
from ..aligned import Alignment, plan_aligned
from ..donors import aligned_sources
from ..kept_sum.reader import soup_names
from ..plan import Plan
from ..sources import Source, recipe_of
from .record import require_rows, settings_of


def as_named(sources: Sequence[Source], ledger: Ledger) -> tuple[Source, ...]:
    """The sources in the order in which the method was given them."""
    order = () if ledger.method is None else ledger.method.order
    places = {digest: place for place, digest in enumerate(order)}
    return tuple(sorted(sources, key=lambda each: places.get(each.digest, 0)))


def plan_merge_again(
    ledger: Ledger, sources: Sequence[Source], soup: Checkpoint
) -> tuple[Plan, Alignment]:
    """The plan, and the sources under the soup's names; LedgerError for a malformed method."""
    settings = settings_of(ledger, soup.label)
    recipe = recipe_of(ledger, sources, first=ledger.integer_source is not None)
    alignment = aligned_sources(sources, recipe, soup_names(soup))
    plan = plan_aligned(recipe, alignment)
    plan = replace(plan, method=settings)
    require_rows(plan)
    return plan, alignment
