"""The ancestors of several soups, from all their ledgers together.

Rule 1: a checkpoint's own ledger is believed over those of its descendants.
Rule 2: content that two ledgers contradict each other about is disputed: the ledger that is kept
proves what it holds, but never that it does not hold something.
Rule 3: a ledger is only believed about the ancestors of its own ingredients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from ..frozen import frozen
from .descent import ancestors_of, with_ancestors
from .ledger import Ledger
from .ledger_json import text_order


@frozen
class Ancestry:
    """The known ancestors of some soups."""

    ledgers: Mapping[str, Ledger]
    """By content digest, sorted; their own `ancestors` are empty."""
    disputed: tuple[str, ...] = ()
    """Digests of contents about which ledgers contradict each other, sorted."""

    def of(self, digests: Iterable[str]) -> Ancestry:
        """The same, for these contents and their ancestors only."""
        found = with_ancestors(digests, self.ledgers)
        ledgers = {root: ledger for root, ledger in self.ledgers.items() if root in found}
        return Ancestry(ledgers, tuple(digest for digest in self.disputed if digest in found))


def ancestry(soups: Iterable[Ledger]) -> Ancestry:
    """The ancestors of soups, from each soup's own ledger; independent of the soups' order."""
    own: dict[str, list[Ledger]] = {}
    told: dict[str, list[Ledger]] = {}
    disputed: set[str] = set()
    for soup in soups:
        heard = ancestors_of(soup.sources, soup.ancestors)
        # a soup of a single soup has the same content, and its ledger contains the ledger of that
        # soup
        itself = heard.pop(soup.root, None) or replace(soup, ancestors={}, disputed=())
        own.setdefault(soup.root, []).append(itself)
        for root, ledger in heard.items():
            told.setdefault(root, []).append(ledger)
        known = with_ancestors((entry.digest for entry in soup.sources), soup.ancestors)
        disputed.update(digest for digest in soup.disputed if digest in known)
    believed: dict[str, Ledger] = {}
    for root in sorted({*own, *told}):
        itself_says, others_say = own.get(root, []), told.get(root, [])
        first, second = _informative(itself_says), _informative(others_say)
        if not _agree([*first, *second]):
            disputed.add(root)
        if first:
            if _agree(first):
                believed[root] = _one(first)
        elif root not in disputed:
            believed[root] = _one(second or itself_says or others_say)
    return Ancestry(believed, tuple(sorted(disputed)))


def _says_nothing(ledger: Ledger) -> bool:
    """Whether a ledger only says that the content is a soup of itself."""
    of_itself = all(entry.digest == ledger.root for entry in ledger.sources)
    return of_itself and ledger.training is None and not _given(ledger)


def _given(ledger: Ledger) -> set[str]:
    """The soups in a history that had no ledger, whose weight was declared."""
    return {state.root for state in ledger.states if state.operation == "given"}


def _informative(ledgers: Sequence[Ledger]) -> list[Ledger]:
    return [ledger for ledger in ledgers if not _says_nothing(ledger)]


def _agree(ledgers: Sequence[Ledger]) -> bool:
    """Whether ledgers of one content give it the same origin."""
    if all(ledger == ledgers[0] for ledger in ledgers):
        # also if there is no ledger
        return True
    first = _origin(ledgers[0])
    return all(_origin(ledger) == first for ledger in ledgers)


def _origin(ledger: Ledger) -> object:
    """The origin of a content by a ledger, without names and places."""
    donors = {entry.digest for entry in ledger.donors}
    kind = ledger.base, ledger.deltas, ledger.method
    return shares_of(ledger), donors, ledger.training, ledger.exact, _given(ledger), kind


def shares_of(ledger: Ledger) -> tuple[tuple[str, ...], dict[str, tuple[Fraction, ...]]]:
    """The blocks of a soup, and by content digest the share of each ingredient in each of them.

    The last share is for tensors in no block.
    """
    count, totals = len(ledger.blocks), ledger.totals
    wholes = (*totals.spread(count), totals.usual)
    shares = {
        # weights that add up to 0 belong to a block without tensors
        entry.digest: tuple(
            weight / whole if whole and not ledger.adds(entry) else weight
            for weight, whole in zip(
                (*entry.weights.spread(count), entry.weight), wholes, strict=True
            )
        )
        for entry in ledger.ingredients
    }
    return ledger.blocks, shares


def _one(ledgers: Sequence[Ledger]) -> Ledger:
    """One of several ledgers, chosen independently of their order."""
    if all(ledger == ledgers[0] for ledger in ledgers):
        return ledgers[0]
    return max(ledgers, key=text_order)
