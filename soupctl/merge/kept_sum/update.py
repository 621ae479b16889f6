"""Computing a changed soup from the sum kept beside it and from the changed ingredients alone.

Rule 1: the result equals, bit for bit, a recomputation from all ingredients, but the ones that stay
are not read.
Rule 2: the new sum has the scale of a sum made from all ingredients, so that weights which were
added and removed leave no trace.
Rule 3: where that is impossible, the change is computed from all ingredients instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from ...checkpoints.checkpoint import Checkpoint
from ...choices import Method, OnMissing
from ...errors import MismatchError
from ...format.dtypes import DType
from ...kinds.classify import classify
from ...kinds.copies import originals
from ...kinds.facts import NO_FACTS
from ...kinds.kind import AVERAGED
from ...ledger.block_weights import NO_WEIGHT, WeightByBlock
from ...ledger.changes import changes
from ...ledger.ledger import Change, Ledger, Runs, runs
from ..aligned import Alignment, align
from ..facts import facts_of_source
from ..identical import require_identical
from ..membership import Membership
from ..opened_inputs import OpenedInputs
from ..plan import Plan, make_plan
from ..recipe import any_match
from ..sources import Computation, Source, plain_recipe, require_digests, selector_of
from ..step import Rule, Step
from .dtypes import dtypes_by_ingredient, filled, outs_of
from .find import OpenedSum
from .format import COPIED, SumUpdate, sum_update
from .holders import ChangedWeights, Holders, holders_of, taken_by, weighted_plan
from .reader import SumReader


def computed_from_sum(
    inputs: OpenedInputs, soup: Checkpoint, members: Membership
) -> Computation | None:
    """The change computed from the soup's sum; None without one, or if more must be read.

    Raises LedgerError for a sum that records other tensors than it holds, MismatchError for an
    ingredient that does not fit it.
    """
    kept, before, after = members.sum, members.before, members.after
    if kept is None or _goes(members):
        return None
    added = [
        each for each in members.added_sums if not members.blocks and _can_be_added(each, kept)
    ]
    changed = _changed_beside(changes(before.ingredients, after), added)
    factors = [WeightByBlock(1 / each.scale) for each in added]
    weights = [entry.weights for entry in after]
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
    return _computed(members, kept, sources, list(changed), update, recorded)


def _computed(
    members: Membership,
    kept: OpenedSum,
    sources: Sequence[Source],
    changed: Sequence[str],
    update: SumUpdate,
    recorded: Mapping[str, Runs],
) -> Computation | None:
    """The computation from sources whose first is the sum, and the next are what `changed`.

    It is None if the sum says too little.
    """
    before, after = members.before, members.after
    partial = before.on_missing is not OnMissing.REFUSE or bool(before.takes)
    checkpoints = [source.checkpoint for source in sources]
    alignment = align(checkpoints, selector_of(before), is_partial=partial)
    read = dict(zip(changed, alignment.sources[1:], strict=False))
    holders = holders_of(before.ingredients, after, read, kept.reader)
    renamed = dict(zip(changed, alignment.renamed[1:], strict=False))
    if not (_has_names(members, renamed) and _is_recorded(members, alignment, holders)):
        return None
    shrink = update.shrink(entry.weights for entry in after)
    made = _plan(before, sources, alignment, kept.reader)
    changes_of = ChangedWeights(update, shrink, holders, members.blocks)
    plan = weighted_plan(made, changes_of, taken_by(before))
    if plan is None or not _are_stored(kept.reader, plan):
        return None
    columns = dtypes_by_ingredient(plan, sources, recorded, kept, members, holders)
    outs = outs_of(plan, columns, members)
    if not all(step.name in outs for step in plan.kept if step.rule is Rule.AVERAGE):
        return None
    plan = replace(plan, steps=tuple(_with_out(step, outs) for step in plan.steps))
    names = [step.name for step in plan.kept]
    unread = [each.digest for each in before.ingredients if each.digest not in read]
    return Computation(
        Method.SUM,
        tuple(sources),
        plan,
        update.scale / shrink,
        alignment,
        tuple((glob, 0) for glob, _ in before.takes),
        recorded={digest: runs(filled(plan, each)) for digest, each in columns.items()},
        lacks={digest: holders.lacking(digest, names) for digest in unread},
    )


def _goes(members: Membership) -> bool:
    """Whether an ingredient goes that the soup's tensors follow."""
    before = members.before
    gone = {entry.digest for entry in before.ingredients}
    gone -= {entry.digest for entry in members.after}
    followed = {digest for _, digest in before.takes}
    if before.integer_source is not None:
        followed.add(before.integer_source.digest)
    # without an ingredient, others may have a tensor in common that was dropped
    return bool(gone & followed or (gone and before.on_missing is OnMissing.DROP))


def _has_names(members: Membership, renamed: dict[str, str | None]) -> bool:
    """Whether the soup keeps its names, and ingredients that are read have the recorded ones."""
    held = {entry.digest: entry.renamed for entry in members.before.ingredients}
    every = {entry.digest: entry.renamed for entry in members.after} | held | renamed
    as_recorded = all(renamed.get(digest, what) == what for digest, what in held.items())
    return as_recorded and any(every[entry.digest] is None for entry in members.after)


def _is_recorded(members: Membership, alignment: Alignment, holders: Holders) -> bool:
    """Whether the sum and its ledger say enough of the ingredients that are not read.

    They do not say whose tensors are copies or rounded constants of others, and which are as wide
    as those of the soup.
    """
    kept, *others = alignment.sources
    is_taken = taken_by(members.before)
    lacked = {n for each in holders.lacks.values() for n in each if not is_taken(n)}
    if alignment.copies or not lacked.isdisjoint(originals(kept.tensors)):
        return False
    kinds = classify(kept.tensors, NO_FACTS)
    gone = [source for digest, source in holders.read.items() if digest not in holders.after]
    if gone and any(kinds[name].role not in AVERAGED for name in lacked & kinds.keys()):
        return False
    is_padded = any_match(members.before.pads)
    return not any(
        is_padded(name)
        and len(tensor.shape) > 1
        and name in kept.tensors
        and (
            tensor.shape > kept.tensors[name].shape
            or (source in gone and tensor.shape == kept.tensors[name].shape)
        )
        for source in others
        for name, tensor in source.tensors.items()
    )


def _are_stored(reader: SumReader, plan: Plan) -> bool:
    """Whether the sum holds copies of tensors that the plan copies, and sums of those it averages.

    An older soupctl averaged constants.
    """
    return all(
        _is_copied(reader, step.name) == (step.rule is not Rule.AVERAGE)
        for step in plan.kept
        if step.name in reader.parts
    )


def _is_copied(reader: SumReader, tensor: str) -> bool:
    """Whether the sum holds a tensor itself, not a sum of it."""
    return reader.parts[tensor][0].name == COPIED + tensor


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
    shown = [source.label for source in alignment.sources]
    contents = [source.tensors for source in alignment.sources]
    facts = [facts_of_source(source) for source in alignment.sources]
    try:
        plan = make_plan(recipe, shown, contents, facts=facts)
        require_identical(plan, alignment.sources)
    except MismatchError:
        require_digests(sources)
        raise
    # what was taken in another dtype than its own is stored as a sum, of itself alone
    steps = (
        replace(step, rule=Rule.AVERAGE)
        if step.rule is Rule.TAKEN and not _is_copied(kept, step.name)
        else step
        for step in plan.steps
    )
    return replace(plan, steps=tuple(steps))


def _with_out(step: Step, outs: Mapping[str, DType]) -> Step:
    if step.rule is not Rule.AVERAGE or step.is_quantised:
        return step
    return replace(step, out=outs[step.name])
