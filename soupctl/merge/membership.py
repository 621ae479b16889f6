"""What a component of a soup holds before and after a change, by content and weight.

Rule 1: a soup's ledger counts only if its tensors are those that the ledger describes.
Rule 2: a soup that is put in counts as its own ingredients.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component
from ..checkpoints.open import open_input
from ..errors import LedgerError
from ..ledger.changes import WeightRemoval, expanded, require_left, require_new, taken_out
from ..ledger.ledger import IngredientEntry, Ledger, merged
from ..ledger.locate import Places, dtype_runs, hint_from, locate
from ..ledger.names import unique_names
from ..ledger.read import is_sum, read_ledger, require_model
from .kept_sum.find import AddedSum, Kept, facts_of, kept_sum, open_sum
from .kept_sum.format import REMOVE
from .sources import RemovalTarget, folder_of, resolve

NO_LEDGER = "--count N or --total W says how much it holds; the result is approximate then"


@dataclass(frozen=True, slots=True)
class AdditionTarget:
    """What is put in, found but not opened."""

    component: Component
    place: str
    """Path of the whole model, of which its name in the ledger is the end."""
    weight: Fraction | None
    kept: Component | None = None
    """The sum that lies beside it, if it is a soup."""


@dataclass(frozen=True, slots=True)
class ChangeSpec:
    """How a component is changed."""

    operation: str
    place: str
    """Path of the whole soup."""
    search: tuple[Path, ...]
    variant: str | None
    approximate: bool
    total: Fraction | None
    again: bool
    newcomers: tuple[AdditionTarget, ...]
    leavers: tuple[RemovalTarget, ...]
    kept: Component | None = None
    """The sum that lies beside the soup."""

    @property
    def rounded(self) -> bool:
        """Whether the soup is computed with as it is."""
        return self.approximate or self.total is not None


@dataclass(slots=True)
class OpenedInputs:
    """What is read to find out who comes and who goes."""

    stack: ExitStack
    looked_at: list[Checkpoint] = field(default_factory=list)
    """Everything that was named and opened: the soup first."""
    opened: dict[str, Checkpoint] = field(default_factory=dict)
    """Checkpoints that may be computed with, by content digest."""
    ancestors: dict[str, Ledger] = field(default_factory=dict)
    exact: bool = True
    """Whether no rounded soup is behind any soup that was read."""
    kept: Kept | None = None
    """The soup's sum."""
    shares: list[AddedSum] = field(default_factory=list)
    """Sums of soups that are put in."""

    def open(self, component: Component) -> Checkpoint:
        """The component, open until the stack is closed."""
        self.looked_at.append(self.stack.enter_context(open_input(component)))
        return self.looked_at[-1]


def ledger_of(soup: Checkpoint, advice: str | None = None) -> Ledger:
    """The soup's ledger, found to fit its tensors.

    Raises LedgerError if it does not fit, and with `advice` if there is none.
    """
    ledger = read_ledger(soup)
    if ledger is None:
        raise LedgerError("has no ledger", path=soup.shown, advice=advice)
    if is_sum(soup):
        # it stands for its soup, whose tensors follow from its own
        if facts_of(soup, ledger).root != checkpoint_digest(soup):
            what = "holds other tensors than it records"
            raise LedgerError(what, path=soup.shown, advice=REMOVE)
    elif ledger.root != checkpoint_digest(soup):
        raise LedgerError("its ledger describes other tensors than it holds", path=soup.shown)
    return ledger


def gather_sum(gathering: OpenedInputs, before: Ledger, terms: ChangeSpec) -> None:
    """Open the soup's sum, if it has one or is one; LedgerError for one that does not fit it."""
    soup = gathering.looked_at[0]
    if is_sum(soup):
        if terms.rounded:
            what = "is the sum kept beside a soup, and is not rounded"
            raise LedgerError(what, path=soup.shown, advice="--exact computes with it")
        gathering.kept = kept_sum(soup, None)
    elif terms.kept is not None:
        sums = gathering.stack.enter_context(open_sum(terms.kept))
        gathering.kept = kept_sum(sums, before)
        gathering.kept.require_tensors_of(soup)


def ledger_before(gathering: OpenedInputs, soup: Checkpoint, terms: ChangeSpec) -> Ledger:
    """The soup's ledger, or for a declared total one that holds it as it is.

    Raises LedgerError for a soup without a sound ledger, and for one whose total is declared.
    """
    if terms.total is None:
        ledger = ledger_of(soup, NO_LEDGER)
        if ledger.training is not None:
            advice = "avg makes soups of such"
            raise LedgerError("is no soup: it was trained", path=soup.shown, advice=advice)
    elif read_ledger(soup) is not None:
        raise LedgerError("has a ledger, which says how much it holds", path=soup.shown)
    else:
        root, dtypes = checkpoint_digest(soup), dtype_runs(soup)
        # with a ledger the soup stands for none of its ingredients, not even for an only one, which
        # it equals: it may be about to be replaced
        gathering.opened[root] = soup
        entry = IngredientEntry(root, unique_names([terms.place])[0], None, terms.total, dtypes)
        ledger = Ledger("given", root, (entry,), dtypes, exact=False)
    gathering.ancestors |= ledger.ancestors
    gathering.exact = ledger.exact
    return ledger


def entries_after(
    gathering: OpenedInputs, before: Ledger, terms: ChangeSpec
) -> tuple[IngredientEntry, ...]:
    """What the soup holds after the change.

    Raises LedgerError for what is not in it or in it already, and if nothing would be left.
    """
    shown = gathering.looked_at[0].shown
    removals = []
    for leaver in terms.leavers:
        digests, checkpoint = resolve(gathering.stack, before, leaver)
        if checkpoint is not None:
            gathering.looked_at.append(checkpoint)
            gathering.opened |= dict.fromkeys(digests, checkpoint)
        removals += [WeightRemoval(digest, leaver.what, leaver.weight) for digest in digests]
    if terms.total is None:
        remaining = taken_out(before, removals, shown)
    else:
        negatives = (_negative(removal, gathering.opened) for removal in removals)
        remaining = merged((*before.ingredients, *negatives))
    freed = _total(before.ingredients) - _total(remaining)
    added = _added(gathering, before, terms, freed if terms.operation == "swap" else None)
    if not terms.again:
        require_new(remaining, added, shown)
    after = merged((*remaining, *(entry for _, entry in added)))
    require_left(after, removals, shown)
    return after


def _total(entries: tuple[IngredientEntry, ...]) -> Fraction:
    return sum((entry.weight for entry in entries), Fraction(0))


def _added(
    gathering: OpenedInputs, before: Ledger, terms: ChangeSpec, freed: Fraction | None
) -> list[tuple[str, IngredientEntry]]:
    """Entries for what is put in, each of weight `freed` if it has none of its own.

    With each is what messages call it.
    """
    places = [newcomer.place for newcomer in terms.newcomers]
    names = unique_names(places, [entry.name for entry in before.ingredients])
    added: list[tuple[str, IngredientEntry]] = []
    for newcomer, name in zip(terms.newcomers, names, strict=True):
        checkpoint = gathering.open(newcomer.component)
        require_model(checkpoint)
        weight = freed if newcomer.weight is None else newcomer.weight
        ledger = read_ledger(checkpoint)
        if ledger is None or ledger.training is not None:
            digest = checkpoint_digest(checkpoint)
            gathering.opened[digest] = checkpoint
            if ledger is not None:
                gathering.ancestors[digest] = ledger_of(checkpoint)
            weight = Fraction(1) if weight is None else weight
            entry = IngredientEntry(digest, name, None, weight, dtype_runs(checkpoint))
            added.append((checkpoint.shown, entry))
        else:
            found = _expanded(gathering, checkpoint, weight, terms)
            _gather_share(gathering, newcomer, checkpoint, ledger, found)
            added += [(f"{entry.name} of {checkpoint.shown}", entry) for entry in found]
    return added


def _expanded(
    gathering: OpenedInputs, soup: Checkpoint, weight: Fraction | None, terms: ChangeSpec
) -> list[IngredientEntry]:
    """The ingredients of a soup that is put in, found where its own ledger leads to."""
    ledger = ledger_of(soup)
    gathering.ancestors |= ledger.ancestors
    gathering.exact &= ledger.exact
    old, new = folder_of(soup), folder_of(gathering.looked_at[0])
    entries = []
    for entry in expanded(ledger, weight):
        found = locate(entry, Places(old, terms.search, terms.variant))
        if found is not None and entry.digest not in gathering.opened:
            gathering.opened[entry.digest] = gathering.stack.enter_context(open_input(found))
        entries.append(replace(entry, hint=hint_from(entry.hint, old, new)))
    return entries


def _gather_share(
    gathering: OpenedInputs,
    newcomer: AdditionTarget,
    soup: Checkpoint,
    ledger: Ledger,
    entries: Sequence[IngredientEntry],
) -> None:
    """Open the sum of a soup whose `entries` are put in, if it has one; LedgerError as for any."""
    if newcomer.kept is None:
        return
    kept = kept_sum(gathering.stack.enter_context(open_sum(newcomer.kept)), ledger)
    kept.require_tensors_of(soup)
    factor = _total(tuple(entries)) / _total(ledger.ingredients)
    gathering.shares.append(AddedSum(kept, ledger, factor))


def _negative(removal: WeightRemoval, opened: dict[str, Checkpoint]) -> IngredientEntry:
    """What is taken out of a soup that has no ledger: its share, with the sign turned round."""
    checkpoint = opened.get(removal.digest)
    if checkpoint is None:
        advice = "a soup without a ledger needs it"
        raise LedgerError("is no file", path=removal.shown, advice=advice)
    name = unique_names([os.path.abspath(removal.shown)])[0]
    weight = Fraction(1) if removal.weight is None else removal.weight
    return IngredientEntry(removal.digest, name, None, -weight, dtype_runs(checkpoint))
