"""The ingredients of a soup's component before and after a change, by content and weight.

Rule 1: a soup's ledger is used only if its tensors match it.
Rule 2: an added soup is added as its own ingredients, unless the request says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component
from ..errors import Issue, LedgerError, MismatchError
from ..frozen import frozen
from ..ledger.ancestry import Ancestry, ancestry
from ..ledger.block_weights import NO_WEIGHT, WeightByBlock, summed
from ..ledger.changes import WeightRemoval, expanded, require_left, require_new, taken_out
from ..ledger.entries import merged, moved
from ..ledger.ledger import IngredientEntry, Ledger, PipelineShare
from ..ledger.ledger_json import IGNORE
from ..ledger.locate import dtype_runs, hint_from
from ..ledger.names import unique_names
from ..ledger.read import is_delta, is_sum, require_model
from ..lora.modules import is_adapter
from .delta.reader import DeltaReader
from .kept_sum.opened import OpenedSum, as_sum, open_sum
from .opened_inputs import OpenedInputs, folder_of
from .revision import AddedPipeline, Addition, ComponentChange, Revision
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


@frozen
class _Added:
    """One added checkpoint, as the entries that it adds."""

    entries: tuple[tuple[str, IngredientEntry], ...]
    """The added entries, each with its name in messages."""
    ledger: Ledger | None
    """Its own, if it was trained or is a soup."""
    exact: bool = True
    sum: OpenedSum | None = None
    is_alone: bool = False
    """Whether it is added as an ingredient itself, not as its ingredients."""


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
    added = list(_added(change, before, freed))
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
    return _entry(removal.digest, name, WeightByBlock(-weight), checkpoint, removal.pipeline)


def _entry(
    digest: str, name: str, weights: WeightByBlock, checkpoint: Checkpoint, pipeline: str | None
) -> IngredientEntry:
    """The entry of a checkpoint that is not a soup; with a share for a pipeline's component."""
    usual, blocks = weights.usual, weights.blocks
    shares = () if pipeline is None else (PipelineShare(pipeline, name, None, usual, blocks),)
    dtypes = dtype_runs(checkpoint)
    return IngredientEntry(digest, name, None, usual, dtypes, pipelines=shares, blocks=blocks)


def _added(
    change: ComponentChange, before: Ledger, freed: WeightByBlock | None
) -> Iterator[_Added]:
    """Each added checkpoint, with the weight `freed` if no other was requested."""
    names = unique_names(change.added_paths, [entry.name for entry in before.ingredients])
    for addition, checkpoint, name, beside, whole in zip(
        change.additions,
        change.added,
        names,
        change.added_sums,
        change.added_pipelines,
        strict=True,
    ):
        _require_addable(before, checkpoint, change.soup.label)
        weight = _wanted(addition, freed)
        if whole.ledger is not None and whole.is_soup and change.revision.expand:
            yield _added_soup(change, checkpoint, weight, beside, whole.ledger)
        else:
            yield _added_checkpoint(change.inputs, checkpoint, name, weight, whole)


def _require_addable(before: Ledger, checkpoint: Checkpoint, soup: str) -> None:
    """Raise InputError or MismatchError for a checkpoint that cannot be added to such a soup.

    That is a delta in a mean, and a model, or a delta of another base, where deltas are applied.
    """
    if not before.is_applied or not (before.base is not None or is_added(checkpoint)):
        require_model(checkpoint)
        return
    if not is_delta(checkpoint) and is_adapter(checkpoint.tensors):
        return
    if not is_delta(checkpoint):
        what = f"is a model, and {soup} is a base with deltas"
        advice = "make a delta of it with soupctl delta FINE BASE"
        raise MismatchError(what, path=checkpoint.label, advice=advice)
    known = (before.ancestors.get(entry.digest) for entry in before.ingredients)
    bases = {each.base for each in known if each is not None and each.is_delta}
    bases |= {entry.digest for entry in before.models}
    if DeltaReader(checkpoint).ledger.base not in bases:
        what = f"is a delta of another base than that of {soup}"
        advice = "make the soup again with soupctl apply --other-base"
        raise MismatchError(what, path=checkpoint.label, advice=advice)


def _wanted(addition: Addition, freed: WeightByBlock | None) -> WeightByBlock | None:
    """The weight that is added; None for the checkpoint's own weight.

    A swap keeps the proportions of the weight between blocks.
    """
    if addition.weight is None:
        return freed
    if freed is None or not freed.blocks:
        return WeightByBlock(addition.weight)
    if not freed.usual:
        what = "replaces an ingredient that has weight in some blocks only"
        raise LedgerError(what, path=addition.path, advice="leave out its weight")
    return freed * (addition.weight / freed.usual)


def _added_checkpoint(
    inputs: OpenedInputs,
    checkpoint: Checkpoint,
    name: str,
    weight: WeightByBlock | None,
    whole: AddedPipeline,
) -> _Added:
    """A checkpoint that is not a soup."""
    digest = checkpoint_digest(checkpoint)
    inputs.by_digest[digest] = checkpoint
    trained = inputs.ledger(checkpoint) is not None
    ledger = require_ledger(inputs, checkpoint, if_unfit=IGNORE) if trained else None
    weight = WeightByBlock(Fraction(1)) if weight is None else weight
    entry = _entry(digest, name, weight, checkpoint, whole.digest)
    exact = ledger is None or ledger.exact
    return _Added(((checkpoint.label, entry),), ledger, exact, is_alone=True)


def _added_soup(
    change: ComponentChange,
    soup: Checkpoint,
    weight: WeightByBlock | None,
    beside: Component | None,
    ledger: Ledger,
) -> _Added:
    """An added soup: its ingredients, located by its own ledger, and its sum."""
    inputs = change.inputs
    require_ledger(inputs, soup, if_unfit=IGNORE)
    old, new = folder_of(soup), folder_of(change.soup)
    entries = []
    for entry in expanded(ledger, weight):
        inputs.find(entry, soup)
        entries.append(moved(entry, lambda hint: hint_from(hint, old, new)))
    kept = None
    if beside is not None:
        kept = open_sum(inputs, beside, soup, ledger)
        is_scaled = not any(entry.blocks for entry in entries)
        kept = kept.reweighted(tuple(entries)) if is_scaled else None
    labelled = tuple((f"{entry.name} of {soup.label}", entry) for entry in entries)
    return _Added(labelled, ledger, ledger.exact, kept)
