"""The ingredients of a soup's component before and after a change, by content and weight.

Rule 1: a soup's ledger is used only if its tensors match it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..errors import Issue, LedgerError
from ..frozen import frozen
from ..ledger.ancestry import Ancestry, ancestry
from ..ledger.block_weights import NO_WEIGHT, WeightByBlock, summed
from ..ledger.changes import WeightRemoval, require_left, require_new, taken_out
from ..ledger.entries import merged
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.ledger_json import IGNORE
from ..ledger.locate import dtype_runs
from ..ledger.names import unique_names
from ..ledger.read import is_sum
from .added_ingredients import added_ingredients, entry_of
from .kept_sum.opened import OpenedSum, as_sum, open_sum
from .opened_inputs import OpenedInputs
from .revision import ComponentChange, Revision
from .sources import is_added
from .verified_ledger import require_ledger

NO_LEDGER = "give its weight with --count N or --total W; the result is then approximate"


@frozen
class Membership:
    """The ingredients of a component before and after a change."""

    before: Ledger
    after: tuple[IngredientEntry, ...]
    ancestry: Ancestry
    """The known ancestors of past and present ingredients."""
    exact: bool
    """Whether no rounded soup entered the computation of any of the soups."""
    sum: OpenedSum | None
    """The kept sum of the soup."""
    added_sums: tuple[OpenedSum, ...]
    """Kept sums of added soups, scaled to the added weights."""
    blocks: tuple[str, ...] = ()
    """The globs of the soup's blocks after the change."""
    deltas: tuple[str, ...] = ()
    """Digests, sorted, of what is added to a mean, after the change."""

    @property
    def added(self) -> frozenset[str]:
        """The digests of all deltas and adapters, after the change."""
        if self.before.base is None:
            return frozenset(self.deltas)
        return frozenset(entry.digest for entry in self.after) - {self.before.base}


def ledger_before(revision: Revision, inputs: OpenedInputs, soup: Checkpoint, path: str) -> Ledger:
    """The soup's ledger; with a declared total, a ledger that has the soup itself as an ingredient.

    `path` is that of the whole soup. Raises LedgerError for a soup without a sound ledger, and for
    one whose total is declared.
    """
    total = revision.total
    if total is None:
        ledger = require_ledger(inputs, soup, NO_LEDGER, if_unfit=IGNORE)
        if ledger.training is not None:
            advice = "make a soup of it with avg"
            raise LedgerError("is a trained checkpoint, not a soup", path=soup.label, advice=advice)
        if ledger.is_delta:
            advice = "make a soup of it with soupctl apply BASE DELTA"
            raise LedgerError("is a delta, not a soup", path=soup.label, advice=advice)
        if ledger.method is not None:
            what = f"was merged by {ledger.method.method}, so its ingredients cannot be changed"
            advice = "make it again with soupctl merge and the ingredients that it is to have"
            raise LedgerError(what, path=soup.label, advice=advice)
        if ledger.is_applied and revision.approximate:
            what = "has deltas applied, which cannot be taken out of a rounded soup"
            raise LedgerError(what, path=soup.label, advice="leave out --approximate")
        return ledger
    if inputs.ledger(soup) is not None:
        advice = "leave out --count and --total"
        raise LedgerError("has a ledger that records its weights", path=soup.label, advice=advice)
    root, dtypes = checkpoint_digest(soup), dtype_runs(soup)
    # a soup with a ledger is not identified with any of its ingredients, even if it equals its only
    # one, which may be about to be replaced
    inputs.by_digest[root] = soup
    entry = IngredientEntry(root, unique_names([path])[0], None, total, dtypes)
    return Ledger("given", root, (entry,), dtypes, exact=False)


def membership(change: ComponentChange) -> Membership:
    """The ingredients of the soup before and after the change.

    Raises LedgerError for a sum that does not fit, for a removed ingredient that the soup lacks or
    an added one that it has, and if nothing would be left.
    """
    before = change.before
    kept = _sum_of(change, before)
    _require_base(change, before)
    remaining = _remaining(change, before)
    freed = None
    if change.revision.operation == "swap":
        held = summed(entry.weights for entry in before.ingredients)
        freed = (held - summed(entry.weights for entry in remaining)) or change.freed
    added = list(added_ingredients(change, before, freed))
    entries = [entry for each in added for entry in each.entries]
    if not change.revision.again:
        require_new(remaining, entries, change.soup.label)
    after = merged((*remaining, *(entry for _, entry in entries)))
    deltas = _deltas(change, before, after)
    if change.revision.operation == "swap":
        _require_one_kind(change, before, remaining, entries, deltas)
    if before.base is None:
        models = [entry for entry in after if entry.digest not in deltas]
        require_left(models, change.removals, change.soup.label)
    ledgers = [each.ledger for each in added if each.ledger is not None]
    alone = {each.ledger.root for each in added if each.ledger is not None and each.is_alone}
    if change.revision.total is None:
        ledgers.append(before)
    return Membership(
        before,
        after,
        _ancestry(ledgers, alone),
        before.exact and all(each.exact for each in added),
        kept,
        tuple(each.sum for each in added if each.sum is not None),
        _common_blocks(change.soup.label, before, [each for each in ledgers if each.is_mean]),
        deltas,
    )


def removed_weight(change: ComponentChange) -> WeightByBlock:
    """The weight that a swap removes from a component; raises as `membership` for removals."""
    if change.revision.operation != "swap":
        return NO_WEIGHT
    held = summed(entry.weights for entry in change.before.ingredients)
    return held - summed(entry.weights for entry in _remaining(change, change.before))


def _deltas(
    change: ComponentChange, before: Ledger, after: Sequence[IngredientEntry]
) -> tuple[str, ...]:
    """The digests of what is added to the mean of a soup; none if it has a base, or no deltas."""
    if before.base is not None or not before.is_applied:
        return ()
    known = {entry.digest: before.adds(entry) for entry in before.ingredients}
    opened = change.inputs.by_digest
    return tuple(
        digest
        for digest in (entry.digest for entry in after)
        if known.get(digest, digest in opened and is_added(opened[digest]))
    )


def _require_one_kind(
    change: ComponentChange,
    before: Ledger,
    remaining: Sequence[IngredientEntry],
    added: Sequence[tuple[str, IngredientEntry]],
    deltas: Collection[str],
) -> None:
    """Raise LedgerError for a swap of a model and a delta, whose weights mean different things."""
    if before.base is not None or not before.is_applied:
        return
    left = {entry.digest for entry in remaining}
    gone = {before.adds(entry) for entry in before.ingredients if entry.digest not in left}
    for label, entry in added:
        if gone - {entry.digest in deltas}:
            kind = "delta" if entry.digest in deltas else "model"
            what = f"is a {kind}, and cannot replace any in {change.soup.label}"
            advice = "subtract the one and add the other"
            raise LedgerError(what, path=label, advice=advice)


def _common_blocks(soup: str, before: Ledger, others: Sequence[Ledger]) -> tuple[str, ...]:
    """The blocks of all soups; LedgerError for an added soup with other blocks than the soup."""
    found = before.blocks
    for each in others:
        if each.blocks and found and each.blocks != found:
            what = "has other blocks than the added soup"
            advice = "average it as one checkpoint with avg"
            raise LedgerError(what, path=soup, advice=advice)
        found = found or each.blocks
    return found


def _require_base(change: ComponentChange, before: Ledger) -> None:
    """Raise LedgerError for a base that would be taken out of a soup that deltas are applied in."""
    issues = [
        Issue(f"is the base of {change.soup.label}, which only deltas are taken out of", each.label)
        for each in change.removals
        if each.digest == before.base
    ]
    if issues:
        raise LedgerError.collected(issues)


def _ancestry(ledgers: Sequence[Ledger], alone: Collection[str]) -> Ancestry:
    """The ancestors of the soup's ingredients, from its ledger and those of added checkpoints.

    `alone` are the ledgers of checkpoints that are added as they are.
    """
    known = ancestry(ledgers)
    listed = {root for ledger in ledgers for root in ledger.ancestors}
    # a soup whose ingredients are added is not an ingredient itself, although one may have the same
    # content
    kept = {
        root: ledger for root, ledger in known.ledgers.items() if root in listed or root in alone
    }
    return replace(known, ledgers=kept)


def _sum_of(change: ComponentChange, before: Ledger) -> OpenedSum | None:
    """The soup's sum, if it has one or is one; LedgerError if it does not fit."""
    soup = change.soup
    if is_sum(soup):
        if change.revision.rounded:
            what = "is a kept sum, which is exact"
            raise LedgerError(what, path=soup.label, advice="leave out --approximate")
        return as_sum(soup, before)
    return None if change.sum is None else open_sum(change.inputs, change.sum, soup, before)


def _remaining(change: ComponentChange, before: Ledger) -> tuple[IngredientEntry, ...]:
    if change.revision.total is None:
        return taken_out(before, change.removals, change.soup.label)
    negatives = (_negative(removal, change.inputs) for removal in change.removals)
    return merged((*before.ingredients, *negatives))


def _negative(removal: WeightRemoval, inputs: OpenedInputs) -> IngredientEntry:
    """The removal from a soup without a ledger, as an entry of negative weight."""
    checkpoint = inputs.by_digest.get(removal.digest)
    if checkpoint is None:
        advice = "of a soup without a ledger, name the file to remove"
        raise LedgerError("is not a file", path=removal.label, advice=advice)
    name = unique_names([os.path.abspath(removal.label)])[0]
    weight = Fraction(1) if removal.weight is None else removal.weight
    return entry_of(removal.digest, name, WeightByBlock(-weight), checkpoint, removal.pipeline)
