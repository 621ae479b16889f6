"""The ingredients of a soup after additions and removals, in exact weights.

Rule 1: removing an ingredient that is not there, more than its weight, or everything, is refused.
Rule 2: the result depends only on what remains, not on the order of operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ..errors import Issue, LedgerError
from .ledger import Change, IngredientEntry, Ledger, descendants_of, named_by_pipelines, parts_of

CANNOT_SAY = "its ledger does not say how much of each component is whose"
MAKE_ANEW = "avg makes the soup anew, with a ledger that does; --component changes one alone"


@dataclass(frozen=True, slots=True)
class WeightRemoval:
    """An ingredient to remove, wholly or in part, by its content digest."""

    digest: str
    label: str
    """The name of the ingredient in messages."""
    weight: Fraction | None = None
    """The weight to remove; None for all of it."""
    pipeline: str | None = None
    """Digest of the pipeline whose part of the ingredient it is; None for the whole ingredient."""


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
        if left.weight:
            entries[removal.digest] = left
        else:
            del entries[removal.digest]
    if issues:
        raise LedgerError.collected(issues)
    return tuple(map(named_by_pipelines, entries.values()))


def _problem(
    removal: WeightRemoval, entry: IngredientEntry | None, ledger: Ledger, soup: str
) -> Issue | None:
    """Why a removal from an entry cannot be, if it cannot; None is an entry that is not there."""
    held = None if entry is None else _held(entry, removal)
    if entry is None or held is None:
        before = {each.digest: each for each in ledger.ingredients}.get(removal.digest)
        if before is not None and _held(before, removal) is not None:
            return Issue(f"would be removed from {soup} twice", removal.label)
        if before is not None and unattributed(before):
            return Issue(f"is perhaps in {soup}, but {CANNOT_SAY}", removal.label, advice=MAKE_ANEW)
        advice = _advice(ledger, removal.digest)
        return Issue(f"is not in {soup}", removal.label, advice=advice)
    if removal.pipeline is None and is_shared(entry):
        names = ", ".join(share.name for share in entry.pipelines[:5])
        what = f"is in {soup} as a part of several pipelines: {names}"
        return Issue(what, removal.label, advice="give the name of one")
    left = held - (held if removal.weight is None else removal.weight)
    # the rest must lie between zero and the weight: a negative removal would add
    if (left and (left > 0) != (held > 0)) or abs(left) > abs(held):
        what = f"has weight {held} in {soup}, so {removal.weight} cannot be removed"
        return Issue(what, removal.label)
    return None


def unattributed(entry: IngredientEntry) -> Fraction:
    """The weight of an ingredient that is of no known pipeline."""
    return entry.weight - sum(share.weight for share in entry.pipelines)


def is_shared(entry: IngredientEntry) -> bool:
    """Whether a part of an ingredient's weight is of one pipeline, and a part is not."""
    return bool(entry.pipelines) and (len(entry.pipelines) > 1 or unattributed(entry) != 0)


def _held(entry: IngredientEntry, removal: WeightRemoval) -> Fraction | None:
    """The weight that a removal is from; None if the pipeline does not have the ingredient."""
    if removal.pipeline is None:
        return entry.weight
    return next((x.weight for x in entry.pipelines if x.digest == removal.pipeline), None)


def _without(entry: IngredientEntry, removal: WeightRemoval) -> IngredientEntry:
    """The entry after a removal that can be."""
    held = _held(entry, removal)
    assert held is not None
    weight = held if removal.weight is None else removal.weight
    shares = tuple(
        # an entry that is not shared has at most one pipeline
        replace(share, weight=share.weight - weight)
        if removal.pipeline in (None, share.digest)
        else share
        for share in entry.pipelines
    )
    left = tuple(share for share in shares if share.weight)
    return replace(entry, weight=entry.weight - weight, pipelines=left)


def require_left(
    entries: Iterable[IngredientEntry], removals: Sequence[WeightRemoval], soup: str
) -> None:
    """Raise LedgerError if the entries make no soup: the total of their weights is not positive."""
    if sum(entry.weight for entry in entries) > 0:
        return
    if not removals:
        raise LedgerError("no ingredient would be left", path=soup)
    what = f"cannot be removed: nothing would be left of {soup}"
    raise LedgerError.collected(Issue(what, removal.label) for removal in removals)


def _advice(ledger: Ledger, digest: str) -> str:
    """Advice for a digest that is no ingredient: an ingredient that contains it, or all names."""
    bearers = descendants_of([digest], ledger.ancestors)
    ways = [entry.name for entry in ledger.ingredients if entry.digest in bearers]
    if ways:
        return f"it came in with {ways[0]}, for which swap can put in a soup without it"
    names = [entry.name for entry in ledger.ingredients]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"it holds {', '.join(names[:5])}{more}"


def require_new(
    held: Iterable[IngredientEntry], added: Iterable[tuple[str, IngredientEntry]], soup: str
) -> None:
    """Raise LedgerError for every added entry that is in the soup already, or is added twice.

    `added` pairs the name of each in messages with its entry. A component of a known pipeline is in
    the soup if that pipeline is, however many others share its content.
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


def expanded(soup: Ledger, weight: Fraction | None) -> tuple[IngredientEntry, ...]:
    """A soup's own ingredients, scaled to the total `weight`; unscaled for None."""
    if weight is None:
        return soup.ingredients
    factor = weight / soup.total
    return tuple(
        replace(
            entry,
            weight=entry.weight * factor,
            pipelines=tuple(replace(x, weight=x.weight * factor) for x in entry.pipelines),
        )
        for entry in soup.ingredients
    )


def changes(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> tuple[Change, ...]:
    """The differences in content between two states, sorted by digest; negative where it falls."""
    old = {entry.digest: entry for entry in before}
    new = {entry.digest: entry for entry in after}
    found = []
    for digest in sorted(old.keys() | new.keys()):
        entry = new.get(digest) or old[digest]
        weight = _weight(new, digest) - _weight(old, digest)
        if weight:
            found.append(Change(digest, entry.name, weight))
    return tuple(found)


def recorded_changes(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> tuple[Change, ...]:
    """The same for a history: pipelines that share a content are told apart by their names."""
    return tuple(
        Change(digest, change.name, change.weight)
        for (digest, _), change in sorted(_by_pipeline(before, after).items())
        if change.weight
    )


def _by_pipeline(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> dict[tuple[str, str], Change]:
    """The changes by content and pipeline, or no pipeline."""
    found: dict[tuple[str, str], Change] = {}
    for sign, entries in ((-1, before), (1, after)):
        for entry in entries:
            for pipeline, name, weight in parts_of(entry):
                key = entry.digest, pipeline
                earlier = found[key].weight if key in found else 0
                found[key] = Change(entry.digest, name, earlier + sign * weight)
    return found


def _weight(entries: dict[str, IngredientEntry], digest: str) -> Fraction:
    return entries[digest].weight if digest in entries else Fraction(0)
