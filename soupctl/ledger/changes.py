"""The ingredients of a soup after additions and removals, in exact weights.

Rule 1: removing an ingredient that is not there, more than its weight, or everything, is refused.
Rule 2: the result depends only on what remains, not on the order of operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ..errors import Issue, LedgerError
from .ledger import Change, IngredientEntry, Ledger, descendants_of


@dataclass(frozen=True, slots=True)
class WeightRemoval:
    """An ingredient to remove, wholly or in part, by its content digest."""

    digest: str
    label: str
    """The name of the ingredient in messages."""
    weight: Fraction | None = None
    """The weight to remove; None for all of it."""


def taken_out(
    ledger: Ledger, removals: Iterable[WeightRemoval], soup: str
) -> tuple[IngredientEntry, ...]:
    """The remaining entries, in the order of the ledger; messages call the soup `soup`.

    Raises LedgerError if an ingredient is not in the soup, or has less weight than is removed.
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
        # the rest must lie between zero and the weight: a negative removal would add
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

    `added` pairs the name of each in messages with its entry.
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
    """A soup's own ingredients, scaled to the total `weight`; unscaled for None."""
    if weight is None:
        return soup.ingredients
    total = sum(entry.weight for entry in soup.ingredients)
    return tuple(replace(entry, weight=entry.weight * weight / total) for entry in soup.ingredients)


def changes(
    before: Iterable[IngredientEntry], after: Iterable[IngredientEntry]
) -> tuple[Change, ...]:
    """The differences between two states, sorted by digest; negative where a weight falls."""
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
