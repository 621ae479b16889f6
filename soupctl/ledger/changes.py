"""The ingredients of a soup after additions and removals, in exact weights.

Rule 1: removing an absent ingredient, more than its weight, or everything is refused.
Rule 2: the result depends only on what remains, not on the order of operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from ..errors import Issue, LedgerError
from ..frozen import frozen
from .block_weights import NO_WEIGHT, WeightByBlock, exact_sum, summed
from .descent import with_descendants
from .entries import named_by_pipelines, parts_of, weighted
from .ledger import Change, IngredientEntry, Ledger

CANNOT_SAY = "its ledger does not record which pipelines share each component"
MAKE_AGAIN = "make the soup again with avg, which records it, or change one --component"


ANOTHER_TAKE = "make the soup again with avg --take and another file"


@frozen
class WeightRemoval:
    """An ingredient to remove, wholly or in part, by its content digest."""

    digest: str
    label: str
    """The name of the ingredient in messages."""
    weight: Fraction | None = None
    """The weight to remove; None for all of it."""
    pipeline: str | None = None
    """Digest of the pipeline whose share is removed; None for the whole ingredient."""


def taken_out(
    ledger: Ledger, removals: Iterable[WeightRemoval], soup: str
) -> tuple[IngredientEntry, ...]:
    """The remaining entries, in the order of the ledger; messages call the soup `soup`.

    Raises LedgerError if an ingredient is not in the soup, or has less weight than is removed.
    """
    entries = {entry.digest: entry for entry in ledger.ingredients}
    issues = []
    for removal in removals:
        problem = _problem(removal, entries.get(removal.digest), ledger, soup)
        if problem is not None:
            issues.append(problem)
            continue
        left = _without(entries[removal.digest], removal)
        # pipelines whose weights cancel are still in the soup
        if left.weights or left.pipelines:
            entries[removal.digest] = left
        else:
            del entries[removal.digest]
    if issues:
        raise LedgerError.collected(issues)
    return tuple(map(named_by_pipelines, entries.values()))


def _problem(
    removal: WeightRemoval, entry: IngredientEntry | None, ledger: Ledger, soup: str
) -> Issue | None:
    """The reason why a weight cannot be removed from an entry; None if it can.

    An entry of None is one that is not in the soup.
    """
    held = None if entry is None else _held(entry, removal)
    if entry is None or held is None:
        before = {each.digest: each for each in ledger.ingredients}.get(removal.digest)
        if before is not None and _held(before, removal) is not None:
            return Issue(f"would be removed from {soup} twice", removal.label)
        if before is not None and unattributed(before):
            return Issue(f"may be in {soup}, but {CANNOT_SAY}", removal.label, advice=MAKE_AGAIN)
        if removal.digest in {donor.digest for donor in ledger.donors}:
            taken = ledger.taken_from(removal.digest)
            what = f"is not an ingredient of {soup}, which only takes {taken} from it"
            return Issue(what, removal.label, advice=ANOTHER_TAKE)
        advice = _advice(ledger, removal.digest)
        return Issue(f"is not in {soup}", removal.label, advice=advice)
    if removal.pipeline is None and is_shared(entry):
        names = ", ".join(share.name for share in entry.pipelines[:5])
        what = f"is in {soup} as a part of several pipelines: {names}"
        return Issue(what, removal.label, advice="give the name of one")
    if removal.weight is None:
        return None
    left = held.usual - removal.weight
    # what remains must lie between zero and the weight: removing a negative weight would add
    if (left and (left > 0) != (held.usual > 0)) or abs(left) > abs(held.usual):
        what = f"has weight {held.usual} in {soup}, so {removal.weight} cannot be removed"
        return Issue(what, removal.label)
    return None


def unattributed(entry: IngredientEntry) -> WeightByBlock:
    """The weight of an ingredient that belongs to no known pipeline."""
    if not entry.pipelines:
        return entry.weights
    return entry.weights - summed(share.weights for share in entry.pipelines)


def is_shared(entry: IngredientEntry) -> bool:
    """Whether only a part of an ingredient's weight belongs to one pipeline."""
    return bool(entry.pipelines) and (len(entry.pipelines) > 1 or bool(unattributed(entry)))


def _held(entry: IngredientEntry, removal: WeightRemoval) -> WeightByBlock | None:
    """The weight to remove from; None if the pipeline does not have the ingredient."""
    if removal.pipeline is None:
        return entry.weights
    return next((x.weights for x in entry.pipelines if x.digest == removal.pipeline), None)


def _without(entry: IngredientEntry, removal: WeightRemoval) -> IngredientEntry:
    """The entry after a valid removal; a partial one removes the same share in every block."""
    held = _held(entry, removal)
    assert held is not None
    gone = held if removal.weight is None else held * (removal.weight / held.usual)
    shares = tuple(
        # an entry that is not shared has at most one pipeline
        weighted(share, share.weights - gone) if removal.pipeline in (None, share.digest) else share
        for share in entry.pipelines
    )
    left = tuple(share for share in shares if share.weights)
    return weighted(replace(entry, pipelines=left), entry.weights - gone)


def require_left(
    entries: Iterable[IngredientEntry], removals: Sequence[WeightRemoval], soup: str
) -> None:
    """Raise LedgerError unless the total weight of the entries is positive."""
    kept = list(entries)
    if exact_sum(entry.weight for entry in kept) > 0:
        return
    if not removals:
        raise LedgerError("no ingredient would be left", path=soup)
    what = f"cannot be removed: nothing would be left of {soup}"
    if any(entry.blocks for entry in kept):
        what = f"cannot be removed: the rest of {soup} has weight in some blocks only"
        advice = "replace it with swap"
        raise LedgerError.collected(Issue(what, each.label, advice=advice) for each in removals)
    raise LedgerError.collected(Issue(what, removal.label) for removal in removals)


def _advice(ledger: Ledger, digest: str) -> str:
    """Advice for a digest that is not an ingredient: the ingredient that contains it, or names."""
    holders = with_descendants([digest], ledger.ancestors)
    if any(donor.digest in holders for donor in ledger.donors):
        return f"it is part of a donor; {ANOTHER_TAKE}"
    wholes = [entry.name for entry in ledger.ingredients if entry.digest in holders]
    if wholes:
        return f"it is part of {wholes[0]}, which swap can replace by a soup without it"
    names = [entry.name for entry in ledger.ingredients]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"it holds {', '.join(names[:5])}{more}"


def require_new(
    held: Iterable[IngredientEntry], added: Iterable[tuple[str, IngredientEntry]], soup: str
) -> None:
    """Raise LedgerError for every added entry that is in the soup already, or is added twice.

    `added` pairs each entry with its name in messages. A component of a known pipeline is in the
    soup if that pipeline is, however many others share its content.
    """
    places: dict[str, str] = {}
    for entry in held:
        where = f"in {soup} already, as "
        places[entry.digest] = where + entry.name
        places |= {share.digest: where + share.name for share in entry.pipelines}
    issues = []
    for label, entry in added:
        keys = [share.digest for share in entry.pipelines] or [entry.digest]
        known = next((places[key] for key in keys if key in places), None)
        if known is not None:
            advice = "--again adds its weight once more"
            issues.append(Issue(f"is {known}", label, advice=advice))
        for key in keys:
            places.setdefault(key, f"added already, as {entry.name}")
    if issues:
        raise LedgerError.collected(issues)


def expanded(soup: Ledger, total: WeightByBlock | None) -> tuple[IngredientEntry, ...]:
    """A soup's own ingredients, with weights scaled to that total; unscaled for None.

    A total that is the same in all blocks keeps the proportions that the soup has between them.
    Raises LedgerError if the total differs by block and so do the weights of the soup.
    """
    if total is None:
        return soup.ingredients
    if total.blocks and soup.blocks:
        what = "has weights by block, so it cannot replace an ingredient that has them, too"
        raise LedgerError(what, path="the added soup", advice="avg takes it as one checkpoint")

    def share(weights: WeightByBlock) -> WeightByBlock:
        if not total.blocks:
            return weights * (total.usual / soup.total)
        pairs = zip(weights.spread(len(total.blocks)), total.blocks, strict=True)
        parts = tuple(weight * whole / soup.total for weight, whole in pairs)
        return WeightByBlock(weights.usual * total.usual / soup.total, parts)

    return tuple(
        weighted(
            replace(entry, pipelines=tuple(weighted(x, share(x.weights)) for x in entry.pipelines)),
            share(entry.weights),
        )
        for entry in soup.ingredients
    )


def changes(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> tuple[Change, ...]:
    """The differences in weight by content between two states, sorted by digest."""
    old = {entry.digest: entry for entry in before}
    new = {entry.digest: entry for entry in after}
    found = []
    for digest in sorted(old.keys() | new.keys()):
        entry = new.get(digest) or old[digest]
        weights = _weights(new, digest) - _weights(old, digest)
        if weights:
            found.append(Change(digest, entry.name, weights.usual, weights.blocks))
    return tuple(found)


def recorded_changes(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> tuple[Change, ...]:
    """The changes for a history: pipelines that share a content are distinguished by name."""
    return tuple(
        change
        for _, change in sorted(_by_pipeline(before, after).items(), key=lambda item: item[0])
        if change.weights
    )


def _by_pipeline(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> dict[tuple[str, str], Change]:
    """The changes by content and pipeline, or no pipeline."""
    found: dict[tuple[str, str], Change] = {}
    for sign, entries in ((-1, before), (1, after)):
        for entry in entries:
            for pipeline, name, weights in parts_of(entry):
                key = entry.digest, pipeline
                earlier = found[key].weights if key in found else NO_WEIGHT
                change = earlier + weights * sign
                found[key] = Change(entry.digest, name, change.usual, change.blocks)
    return found


def _weights(entries: dict[str, IngredientEntry], digest: str) -> WeightByBlock:
    return entries[digest].weights if digest in entries else NO_WEIGHT
