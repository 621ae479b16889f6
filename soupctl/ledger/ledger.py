"""What was done: the record of a soup, as values.

Rule 1: equal soups have equal ledgers: ingredients by digest, no clock, no absolute paths.
Rule 2: every digest has one width, so a ledger's size is known before the data it describes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby

from ..errors import UsageError
from ..format.dtypes import DType
from .training_record import TrainingRecord

LEDGER_KEY = "soupctl"
"""The metadata key of a ledger."""
SUM_KEY = "soupctl.sum"
"""The metadata key of the facts that a kept sum records beside its ledger."""

UNKNOWN = "blake3:" + "0" * 64
"""A digest that is not known yet, as wide as one that is."""

Runs = tuple[tuple[DType, int], ...]
"""Dtypes of tensors in the order of their names, as runs: how many in a row have which."""


@dataclass(frozen=True, slots=True)
class IngredientEntry:
    """One ingredient."""

    digest: str
    name: str
    hint: str | None
    weight: Fraction
    dtypes: Runs


@dataclass(frozen=True, slots=True)
class IntegerSource:
    """Integer tensors that differed, and the ingredient whose values the soup has."""

    digest: str
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation did to the weight of one ingredient: positive is more of it."""

    digest: str
    name: str
    weight: Fraction


@dataclass(frozen=True, slots=True)
class SoupState:
    """An earlier state of a soup, and the operation that made it from the one before."""

    operation: str
    changed: tuple[Change, ...]
    root: str
    exact: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """One soup: its ingredients, how they combine, and the ledgers of those that are soups."""

    operation: str
    root: str
    """Content digest of the soup's tensors."""
    ingredients: tuple[IngredientEntry, ...]
    """Sorted by digest, one entry a content."""
    dtypes: Runs
    asked_dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    allow_nonfinite: bool = False
    integer_source: IntegerSource | None = None
    exact: bool = True
    """Whether no rounded soup was ever computed with, here or in the chain."""
    changed: tuple[Change, ...] = ()
    """What the operation changed in the soup before; empty for an average, which made it."""
    chain: tuple[SoupState, ...] = ()
    """Earlier states, oldest first."""
    ancestors: Mapping[str, Ledger] = field(default_factory=dict)
    """Ledgers of ingredients that are soups or were trained, and of theirs, by content digest.

    These have none.
    """
    training: TrainingRecord | None = None
    """How it was trained, if it is no soup; then it has no ingredients."""

    @property
    def total(self) -> Fraction:
        """The weight of all ingredients together."""
        return sum((entry.weight for entry in self.ingredients), Fraction(0))

    @property
    def states(self) -> tuple[SoupState, ...]:
        """All states of the soup, oldest first, the present one last."""
        return (*self.chain, SoupState(self.operation, self.changed, self.root, self.exact))


def runs(dtypes: Iterable[DType]) -> Runs:
    """The dtypes as runs of equal neighbours."""
    return tuple((dtype, sum(1 for _ in group)) for dtype, group in groupby(dtypes))


def merged(entries: Iterable[IngredientEntry]) -> tuple[IngredientEntry, ...]:
    """The entries sorted by digest, those of one content made one with the summed weight.

    Raises UsageError if the weights of one content cancel.
    """
    by_digest: dict[str, IngredientEntry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.digest, entry.name, entry.hint or "")):
        earlier = by_digest.get(entry.digest)
        total = entry.weight + (earlier.weight if earlier else 0)
        by_digest[entry.digest] = replace(earlier or entry, weight=total)
    for entry in by_digest.values():
        if not entry.weight:
            raise UsageError(
                "is in more than once, with weights that cancel",
                path=entry.name,
                advice="leave it out",
            )
    return tuple(by_digest.values())


def as_state(ledger: Ledger) -> SoupState:
    """The state that a ledger describes, as its successors remember it."""
    made = tuple(Change(entry.digest, entry.name, entry.weight) for entry in ledger.ingredients)
    changed = ledger.changed if ledger.chain else made
    return SoupState(ledger.operation, changed, ledger.root, ledger.exact)


def ancestors_of(
    entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> dict[str, Ledger]:
    """Those of `ancestors` that the entries come from, directly or by way of each other."""
    found: dict[str, Ledger] = {}
    wanted = [entry.digest for entry in entries]
    while wanted:
        digest = wanted.pop()
        # a soup can come from itself, by way of another dtype
        if digest in ancestors and digest not in found:
            found[digest] = ancestors[digest]
            wanted += [entry.digest for entry in ancestors[digest].ingredients]
    return dict(sorted(found.items()))


def descendants_of(digests: Iterable[str], ancestors: Mapping[str, Ledger]) -> set[str]:
    """These contents, and those of all `ancestors` that come from any, directly or not."""
    holders: dict[str, list[str]] = {}
    for root, ancestor in ancestors.items():
        for entry in ancestor.ingredients:
            holders.setdefault(entry.digest, []).append(root)
    found: set[str] = set()
    wanted = list(digests)
    while wanted:
        digest = wanted.pop()
        if digest not in found:
            found.add(digest)
            wanted += holders.get(digest, ())
    return found
