"""Which contents descend from which, by the ledgers of all that is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .ledger import IngredientEntry, Ledger


def ancestors_of(
    entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> dict[str, Ledger]:
    """The subset of `ancestors` that the entries descend from, directly or indirectly."""
    found = with_ancestors((entry.digest for entry in entries), ancestors)
    return {digest: ancestors[digest] for digest in sorted(found) if digest in ancestors}


def with_ancestors(digests: Iterable[str], ancestors: Mapping[str, Ledger]) -> set[str]:
    """The digests, and those of all their ancestors that are in `ancestors`."""

    def parents(digest: str) -> list[str]:
        known = ancestors.get(digest)
        return [] if known is None else [entry.digest for entry in known.sources]

    return _reached(digests, parents)


def with_descendants(digests: Iterable[str], ancestors: Mapping[str, Ledger]) -> set[str]:
    """The digests, and those of all `ancestors` that descend from any of them."""
    children: dict[str, list[str]] = {}
    for root, ancestor in ancestors.items():
        for entry in ancestor.sources:
            children.setdefault(entry.digest, []).append(root)
    return _reached(digests, lambda digest: children.get(digest, []))


def _reached(digests: Iterable[str], neighbors: Callable[[str], list[str]]) -> set[str]:
    """The digests, and all that any number of steps to neighbors leads to."""
    found: set[str] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        # a soup can be its own ancestor, by way of another dtype
        if digest not in found:
            found.add(digest)
            waiting += neighbors(digest)
    return found
