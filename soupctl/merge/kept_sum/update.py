"""Computing a changed soup from the sum kept beside it and from the changed ingredients alone.

Rule 1: the result equals, bit for bit, a recomputation from all ingredients, but the ones that stay
are not read.
Rule 2: the new sum has the scale of a sum made from all ingredients, so that weights which were
added and removed leave no trace.
Rule 3: where that is impossible, the change is computed from all ingredients instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from ...checkpoints.checkpoint import Checkpoint
from ...choices import Method, OnMissing
from ...ledger.block_weights import NO_WEIGHT, WeightByBlock
from ...ledger.changes import changes
from ...ledger.ledger import Change, Ledger, Runs, runs
from ..aligned import Alignment, align, plan_aligned
from ..identical import require_identical
from ..membership import Membership
from ..opened_inputs import OpenedInputs
from ..plan import Plan
from ..sources import Computation, Source, explained_by_digests, plain_recipe, selector_of
from ..step import Rule
from .dtypes import dtypes_by_ingredient, filled, with_dtypes
from .format import SumUpdate, sum_update
from .holders import ChangedWeights, holders_of, taken_by, weighted_plan
from .opened import OpenedSum
from .reader import SumReader
from .record import SummedSource
from .sufficient import are_stored, goes, has_names, is_copied, is_recorded
from .update_with_deltas import computed_with_deltas


def computed_from_sum(
    inputs: OpenedInputs, soup: Checkpoint, members: Membership, placed: Collection[str] = ()
) -> Computation | None:
    """The change computed from the soup's sum; None without one, or if more must be read.

    Modules of the adapters `placed` need not be in this component. Raises LedgerError for a sum
    that records other tensors than it holds, MismatchError for an ingredient that does not fit it.
    """
    kept, before, after = members.sum, members.before, members.after
    if kept is None or goes(members):
        return None
    if before.is_applied:
        return computed_with_deltas(inputs, soup, members, kept, placed)
    added = [
        each for each in members.added_sums if not members.blocks and _can_be_added(each, kept)
    ]
    changed = _changed_beside(changes(before.ingredients, after), added)
    factors = [WeightByBlock(1 / each.scale) for each in added]
    weights = [entry.weights for entry in after]
    if not before.normalize:
        # the divisor is whole, too
        weights.append(WeightByBlock(Fraction(1)))
    update = sum_update(kept.scale, [*changed.values(), *factors], weights)
    if update is None:
        return None
    entries = {entry.digest: entry for entry in (*before.ingredients, *after)}
    sources = [Source(kept.facts.root, kept.reader, WeightByBlock(Fraction(update.factor)))]
    for digest, weight in changed.items():
        checkpoint = inputs.find(entries[digest], soup)
        if checkpoint is None:
            return None
        sources.append(Source(digest, checkpoint, weight))
    for each, factor in zip(added, factors, strict=True):
        sources.append(Source(each.facts.root, each.reader, factor))
    recorded = kept.dtypes
    for each in added:
        recorded |= each.dtypes
    shrink = update.shrink(weights)
    return _computed(members, kept, sources, list(changed), update, shrink, recorded)


def _computed(
    members: Membership,
    kept: OpenedSum,
    sources: Sequence[Source],
    changed: Sequence[str],
    update: SumUpdate,
    shrink: int,
    recorded: Mapping[str, Runs],
) -> Computation | None:
    """The computation from sources whose first is the sum, and the next are what `changed`.

    The new sum's scale is divided by `shrink`. It is None if the sum says too little.
    """
    before, after = members.before, members.after
    partial = before.on_missing is not OnMissing.REFUSE or bool(before.takes)
    checkpoints = [source.checkpoint for source in sources]
    alignment = align(checkpoints, selector_of(before), is_partial=partial)
    read = dict(zip(changed, alignment.sources[1:], strict=False))
    holders = holders_of(before.ingredients, after, read, kept.reader)
    renamed = dict(zip(changed, alignment.renamed[1:], strict=False))
    if not (has_names(members, renamed) and is_recorded(members, alignment, holders)):
        return None
    made = _plan(before, sources, alignment, kept.reader)
    divisor = None if before.normalize else int(update.scale)
    changes_of = ChangedWeights(update, shrink, holders, members.blocks, divisor)
    plan = weighted_plan(made, changes_of, taken_by(before))
    if plan is None or not are_stored(kept.reader, plan):
        return None
    columns = dtypes_by_ingredient(plan, sources, recorded, kept, members, holders)
    plan = with_dtypes(plan, columns, members)
    if plan is None:
        return None
    names = [step.name for step in plan.kept]
    unread = [each.digest for each in before.ingredients if each.digest not in read]
    return Computation(
        Method.SUM,
        tuple(sources),
        plan,
        update.scale / shrink,
        alignment,
        tuple((glob, 0) for glob, _ in before.takes),
        recorded={
            digest: SummedSource(runs(filled(plan, each))) for digest, each in columns.items()
        },
        lacks={digest: holders.lacking(digest, names) for digest in unread},
    )


def _can_be_added(other: OpenedSum, kept: OpenedSum) -> bool:
    """Whether one sum can be added to another: of the same tensors, without differing integers.

    Otherwise the other soup's ingredients are added one by one.
    """
    ledger = other.ledger
    same = _shapes(other.reader) == _shapes(kept.reader) and ledger.takes == kept.ledger.takes
    is_taken = taken_by(ledger)
    has_all = all(is_taken(name) for each in ledger.ingredients for name in each.lacks)
    return same and has_all and ledger.integer_source is None


def _shapes(reader: SumReader) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in reader.tensors.items()}


def _changed_beside(
    changed: Sequence[Change], added: Sequence[OpenedSum]
) -> dict[str, WeightByBlock]:
    """The changes of weights that added sums do not account for, by content digest."""
    weights = {change.digest: change.weights for change in changed}
    for each in added:
        for entry in each.ledger.ingredients:
            weights[entry.digest] = weights.get(entry.digest, NO_WEIGHT) - entry.weights
    return {digest: weight for digest, weight in sorted(weights.items()) if weight}


def _plan(before: Ledger, sources: Sequence[Source], alignment: Alignment, kept: SumReader) -> Plan:
    """The plan of the change, without its weights.

    Its dtypes do not yet follow the remaining ingredients.
    """
    ones = [WeightByBlock(Fraction(1))] * len(sources)
    recipe = plain_recipe(before, ones, first=before.integer_source is not None)
    # tensors of --take are stored unchanged in the kept sum, which is the first source
    recipe = replace(recipe, takes=tuple((glob, 0) for glob, _ in before.takes))
    with explained_by_digests(sources):
        plan = plan_aligned(recipe, alignment)
        require_identical(plan, alignment.sources)
    # what was taken in another dtype than its own is stored as a sum, of itself alone
    steps = (
        replace(step, rule=Rule.AVERAGE)
        if step.rule is Rule.TAKEN and not is_copied(kept, step.name)
        else step
        for step in plan.steps
    )
    return replace(plan, steps=tuple(steps))
