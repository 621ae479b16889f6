"""Entries of ledgers: put together, given other weights, and taken apart by pipelines.

Rule 1: content that is given several times is one ingredient, with the sum of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from ..errors import UsageError
from .block_weights import WeightByBlock, summed
from .ledger import Change, IngredientEntry, Ledger, PipelineShare, SoupState

Weighted = TypeVar("Weighted", PipelineShare, IngredientEntry, Change)


def weighted(each: Weighted, weights: WeightByBlock) -> Weighted:
    """An entry, share or change with other weights."""
    return replace(each, weight=weights.usual, blocks=weights.blocks)


def merged(entries: Iterable[IngredientEntry]) -> tuple[IngredientEntry, ...]:
    """The entries sorted by digest; entries with the same digest become one, with summed weight.

    Raises UsageError if the weights of one digest cancel.
    """
    by_digest: dict[str, IngredientEntry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.digest, entry.name, entry.hint or "")):
        earlier = by_digest.get(entry.digest)
        by_digest[entry.digest] = entry if earlier is None else _together(earlier, entry)
    for entry in by_digest.values():
        if not (entry.weight or entry.weights):
            raise _cancelled(entry)
    return tuple(map(named_by_pipelines, by_digest.values()))


def _cancelled(entry: IngredientEntry) -> UsageError:
    """The error for an ingredient whose weight would be zero."""
    if len(entry.pipelines) > 1:
        names = ", ".join(sorted(share.name for share in entry.pipelines)[:5])
        what = f"would be shared by pipelines whose weights cancel: {names}"
        return UsageError(what, path=entry.name, advice="give them other weights")
    what = "is given more than once, with weights that cancel"
    return UsageError(what, path=entry.name, advice="leave it out")


def _together(first: IngredientEntry, second: IngredientEntry) -> IngredientEntry:
    """The first entry with the weight, hints and pipelines of a second of the same digest."""
    shares = merged_shares((*first.pipelines, *second.pipelines))
    return weighted(replace(first, pipelines=shares), first.weights + second.weights)


def merged_shares(shares: Iterable[PipelineShare]) -> tuple[PipelineShare, ...]:
    """The shares sorted by digest, those of one pipeline added up; zero shares are left out."""
    by_digest: dict[str, PipelineShare] = {}
    for share in sorted(shares, key=lambda share: (share.digest, share.name, share.hint or "")):
        earlier = by_digest.get(share.digest)
        total = share.weights if earlier is None else earlier.weights + share.weights
        by_digest[share.digest] = weighted(earlier or share, total)
    return tuple(share for share in by_digest.values() if share.weights)


def named_by_pipelines(entry: IngredientEntry) -> IngredientEntry:
    """The entry with the name and hint of its first pipeline, if all its weight is of pipelines.

    So they do not depend on the pipelines that it had before.
    """
    if not entry.pipelines or entry.weights != summed(x.weights for x in entry.pipelines):
        return entry
    first = min(entry.pipelines, key=lambda share: (share.name, share.hint or "", share.digest))
    return replace(entry, name=first.name, hint=first.hint)


def moved(entry: IngredientEntry, hint_of: Callable[[str | None], str | None]) -> IngredientEntry:
    """The entry with every hint replaced by the result of `hint_of`."""
    shares = tuple(replace(share, hint=hint_of(share.hint)) for share in entry.pipelines)
    return named_by_pipelines(replace(entry, hint=hint_of(entry.hint), pipelines=shares))


def parts_of(entry: IngredientEntry) -> tuple[tuple[str, str, WeightByBlock], ...]:
    """The shares of an ingredient's weight: digest and name of each pipeline, and the rest.

    The rest, which may be zero, comes last, with an empty digest.
    """
    shares = tuple((share.digest, share.name, share.weights) for share in entry.pipelines)
    rest = entry.weights - summed(weights for _, _, weights in shares)
    return (*shares, ("", entry.name, rest))


def as_state(ledger: Ledger) -> SoupState:
    """The state that a ledger describes, for the history of its successor."""
    made = tuple(
        Change(entry.digest, name, weights.usual, weights.blocks)
        for entry in ledger.ingredients
        for _, name, weights in parts_of(entry)
        if weights
    )
    changed = ledger.changed if ledger.chain else made
    return SoupState(ledger.operation, changed, ledger.root, ledger.exact)
