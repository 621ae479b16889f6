"""The plan of a soup that a method made, from its ledger and its ingredients found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...checkpoints.checkpoint import Checkpoint
from ...ledger.ledger import Ledger
from ..aligned import Alignment
from ..donors import aligned_sources
from ..facts import facts_of_source
from ..kept_sum.reader import soup_names
from ..plan import Plan, make_plan
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
    plan = make_plan(
        recipe,
        [source.label for source in alignment.sources],
        [source.tensors for source in alignment.sources],
        facts=[facts_of_source(source) for source in alignment.sources],
    )
    plan = replace(plan, method=settings)
    require_rows(plan)
    return plan, alignment
