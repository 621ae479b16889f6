"""What ingredients a soup has after something was added or taken out: pure, in exact weights.

Rule 1: taking out what is not in, more than is in, or all that is in, is refused.
Rule 2: the order of operations does not show: only the multiset of what remains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ..errors import Issue, LedgerError
from .ledger import Change, IngredientEntry, Ledger, descendants_of


@dataclass(frozen=True, slots=True)
class WeightRemoval:
    """An ingredient to take out, by its content, wholly or in part."""

    digest: str
    label: str
    """What messages call it."""
    weight: Fraction | None = None
    """How much of its weight; None for all of it."""


def taken_out(
    ledger: Ledger, removals: Iterable[WeightRemoval], soup: str
) -> tuple[IngredientEntry, ...]:
    """The entries that remain of the soup called `soup`, in the order of the ledger.

    Raises LedgerError for what is not in it and for more than is in it.
    """
    entries = {entry.digest: entry for entry in ledger.ingredients}
    held = frozenset(entries)
    issues = []
    for removal in removals:
        entry = entries.get(removal.digest)
        if entry is None and removal.digest in held:
            issues.append(Issue(f"would be removed from {soup} twice", removal.label))
            continue
        if entry is None:
            advice = _advice(ledger, removal.digest)
            issues.append(Issue(f"is not in {soup}", removal.label, advice=advice))
            continue
        left = entry.weight - (entry.weight if removal.weight is None else removal.weight)
        # neither past zero nor away from it: taking out less than nothing would put in
        if (left and (left > 0) != (entry.weight > 0)) or abs(left) > abs(entry.weight):
            what = f"has weight {entry.weight} in {soup}, so {removal.weight} cannot be removed"
            issues.append(Issue(what, removal.label))
        elif left:
            entries[removal.digest] = replace(entry, weight=left)
        else:
            del entries[removal.digest]
    if issues:
        raise LedgerError.collected(issues)
    return tuple(entries.values())


def require_left(
    entries: Iterable[IngredientEntry], removals: Sequence[WeightRemoval], soup: str
) -> None:
    """Raise LedgerError if entries make no soup: if there are none, or with a weight of nothing."""
    if sum(entry.weight for entry in entries) > 0:
        return
    if not removals:
        raise LedgerError("no ingredient would be left", path=soup)
    what = f"cannot be removed: nothing would be left of {soup}"
    raise LedgerError.collected(Issue(what, removal.label) for removal in removals)


def _advice(ledger: Ledger, digest: str) -> str:
    """What to take out instead: a soup that holds that content, or anything that is there."""
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
    """Raise LedgerError for every added entry whose content is in already, or is added twice.

    Messages call each by what it is paired with.
    """
    places = {entry.digest: f"in {soup} already, as {entry.name}" for entry in held}
    issues = []
    for label, entry in added:
        if entry.digest in places:
            advice = "--again adds its weight once more"
            issues.append(Issue(f"is {places[entry.digest]}", label, advice=advice))
        places.setdefault(entry.digest, f"added already, as {entry.name}")
    if issues:
        raise LedgerError.collected(issues)


def expanded(soup: Ledger, weight: Fraction | None) -> tuple[IngredientEntry, ...]:
    """A soup's own ingredients, with `weight` shared among them; None for the weight they have."""
    if weight is None:
        return soup.ingredients
    total = sum(entry.weight for entry in soup.ingredients)
    return tuple(replace(entry, weight=entry.weight * weight / total) for entry in soup.ingredients)


def changes(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> tuple[Change, ...]:
    """What differs between two states, sorted by digest; a weight that falls is negative."""
    old = {entry.digest: entry for entry in before}
    new = {entry.digest: entry for entry in after}
    found = []
    for digest in sorted(old.keys() | new.keys()):
        entry = new.get(digest) or old[digest]
        weight = _weight(new, digest) - _weight(old, digest)
        if weight:
            found.append(Change(digest, entry.name, weight))
    return tuple(found)


def _weight(entries: dict[str, IngredientEntry], digest: str) -> Fraction:
    return entries[digest].weight if digest in entries else Fraction(0)
