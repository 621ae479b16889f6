"""Which contents descend from which, by the ledgers of all that is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .ledger import IngredientEntry, Ledger


def ancestors_of(
    entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> dict[str, Ledger]:
    """The subset of `ancestors` that the entries descend from, directly or indirectly."""
    found = reached((entry.digest for entry in entries), ancestors)
    return {digest: ancestors[digest] for digest in sorted(found) if digest in ancestors}


def reached(digests: Iterable[str], ancestors: Mapping[str, Ledger]) -> set[str]:
    """The digests, and those of all their ancestors that are in `ancestors`."""
    found: set[str] = set()
    wanted = list(digests)
    while wanted:
        digest = wanted.pop()
        # a soup can be its own ancestor, by way of another dtype
        if digest not in found:
            found.add(digest)
            if digest in ancestors:
                wanted += [entry.digest for entry in ancestors[digest].sources]
    return found


def descendants_of(digests: Iterable[str], ancestors: Mapping[str, Ledger]) -> set[str]:
    """The digests, and those of all `ancestors` that descend from any of them."""
    holders: dict[str, list[str]] = {}
    for root, ancestor in ancestors.items():
        for entry in ancestor.sources:
            holders.setdefault(entry.digest, []).append(root)
    found: set[str] = set()
    wanted = list(digests)
    while wanted:
        digest = wanted.pop()
        if digest not in found:
            found.add(digest)
            wanted += holders.get(digest, ())
    return found
