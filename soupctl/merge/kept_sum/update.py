"""Computing a changed soup from the sum kept beside it and from the changed ingredients alone.

Rule 1: the result equals, bit for bit, a recomputation from all ingredients, but the ones that stay
are not read.
Rule 2: the new sum has the scale of a sum made from all ingredients, so that weights which were
added and removed leave no trace.
Rule 3: where that is impossible, the change is computed from all ingredients instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice

from ...checkpoints.checkpoint import Checkpoint
from ...choices import Method, OnMissing
from ...errors import LedgerError, MismatchError
from ...format.dtypes import FLOATS, DType, narrowest
from ...ledger.block_weights import WeightByBlock
from ...ledger.changes import changes
from ...ledger.ledger import Change, IngredientEntry, Ledger, Runs
from ...ledger.weights import LARGEST
from ..aligned import Alignment, align
from ..facts import facts_of_source
from ..identical import require_identical
from ..membership import Membership
from ..opened_inputs import OpenedInputs
from ..plan import Plan, make_plan
from ..recipe import first_match
from ..scaled_codes import companions_of
from ..sources import Computation, Source, plain_recipe, require_digests, selector_of
from ..step import Rule, Step
from ..step_weights import StepWeights
from .find import OpenedSum
from .format import COPIED, REMOVE, SumUpdate, expand_runs, sum_update
from .reader import SumReader


def computed_from_sum(
    inputs: OpenedInputs, soup: Checkpoint, members: Membership
) -> Computation | None:
    """The change computed from the soup's sum; None without one, or if a changed file is missing.

    Raises LedgerError for a sum that records other tensors than it holds, MismatchError for an
    ingredient that does not fit it.
    """
    kept, before, after = members.sum, members.before, members.after
    if kept is None or _has_choices(members):
        return None
    if before.integer_source and before.integer_source.digest not in {e.digest for e in after}:
        return None
    added = [each for each in members.added_sums if _can_be_added(each, kept)]
    changed = _changed_beside(changes(before.ingredients, after), added)
    factors = [1 / each.scale for each in added]
    total = sum((entry.weight for entry in after), Fraction(0))
    update = sum_update(kept.scale, [*changed.values(), *factors], total)
    if update is None or any(abs(each.weight * update.scale) > LARGEST for each in after):
        return None
    entries = {entry.digest: entry for entry in (*before.ingredients, *after)}
    sources = [Source(kept.facts.root, kept.reader, WeightByBlock(Fraction(update.factor)))]
    for digest, weight in changed.items():
        checkpoint = inputs.find(entries[digest], soup)
        if checkpoint is None:
            return None
        sources.append(Source(digest, checkpoint, WeightByBlock(weight)))
    for each, factor in zip(added, factors, strict=True):
        sources.append(Source(each.facts.root, each.reader, WeightByBlock(factor)))
    recorded = kept.dtypes
    for each in added:
        recorded |= each.dtypes
    alignment = align([source.checkpoint for source in sources], selector_of(before))
    if not _is_plain(alignment, [*before.ingredients, *after], selector_of(before)):
        return None
    shrink = update.shrink(entry.weight for entry in after)
    plan = _plan(before, sources, update, shrink)
    if not _are_stored(kept.reader, plan):
        return None
    outs = _outs(plan, sources, recorded, members, kept.label)
    plan = replace(plan, steps=tuple(_with_out(step, outs) for step in plan.steps))
    scale = update.scale / shrink
    return Computation(Method.SUM, tuple(sources), plan, scale, alignment, recorded=recorded)


def _has_choices(members: Membership) -> bool:
    """Whether ingredients are treated differently in some tensors, which a sum does not record."""
    before = members.before
    is_partial = before.on_missing is not OnMissing.REFUSE
    return is_partial or bool(members.blocks or before.takes or before.pads)


def _is_plain(
    alignment: Alignment, entries: Sequence[IngredientEntry], selected: Callable[[str], bool]
) -> bool:
    """Whether all ingredients have all tensors of the soup under its names.

    Otherwise the rest may have other names or fewer tensors, which a sum does not record.
    """
    names = [
        frozenset(filter(selected, source.tensors)) - companions_of(source.tensors)
        for source in alignment.sources
    ]
    recorded = any(entry.renamed or entry.lacks for entry in entries)
    return alignment.is_plain and len(set(names)) == 1 and not recorded


def _are_stored(reader: SumReader, plan: Plan) -> bool:
    """Whether the sum holds copies of tensors that the plan copies, and sums of those it averages.

    An older soupctl averaged constants.
    """
    return all(
        (reader.parts[step.name][0].name == COPIED + step.name) == (step.rule is not Rule.AVERAGE)
        for step in plan.kept
    )


def _can_be_added(other: OpenedSum, kept: OpenedSum) -> bool:
    """Whether one sum can be added to another: of the same tensors, without differing integers.

    Otherwise the other soup's ingredients are added one by one.
    """
    same = other.reader.tensors.keys() == kept.reader.tensors.keys()
    return same and other.ledger.integer_source is None


def _changed_beside(changed: Sequence[Change], added: Sequence[OpenedSum]) -> dict[str, Fraction]:
    """The changes of weights that added sums do not account for, by content digest."""
    weights = {change.digest: change.weight for change in changed}
    for each in added:
        for entry in each.ledger.ingredients:
            weights[entry.digest] = weights.get(entry.digest, Fraction(0)) - entry.weight
    return {digest: weight for digest, weight in sorted(weights.items()) if weight}


def _plan(before: Ledger, sources: Sequence[Source], update: SumUpdate, shrink: int) -> Plan:
    """The plan of the change; its dtypes do not yet follow the remaining ingredients."""
    ones = [WeightByBlock(Fraction(1))] * len(sources)
    recipe = plain_recipe(before, ones, first=before.integer_source is not None)
    shown = [source.checkpoint.label for source in sources]
    contents = [source.checkpoint.tensors for source in sources]
    facts = [facts_of_source(source.checkpoint) for source in sources]
    try:
        plan = make_plan(recipe, shown, contents, facts=facts)
        require_identical(plan, [source.checkpoint for source in sources])
    except MismatchError:
        require_digests(sources)
        raise
    whole = (update.factor, *update.weights)
    return plan.reweighted(StepWeights(whole, update.divisor, shrink))


def _with_out(step: Step, outs: Mapping[str, DType]) -> Step:
    if step.rule is not Rule.AVERAGE or step.is_quantised:
        return step
    return replace(step, out=outs[step.name])


def _outs(
    plan: Plan,
    sources: Sequence[Source],
    recorded: Mapping[str, Runs],
    members: Membership,
    shown: str,
) -> dict[str, DType]:
    """The dtype of each averaged tensor: the requested one, or one that holds all that remains."""
    asked, asked_for = members.before.asked_dtype, first_match(members.before.dtype_for)
    given = {step.name: asked_for(step.name) or asked for step in plan.kept}
    if all(given.values()):
        return {name: dtype for name, dtype in given.items() if dtype is not None}
    places = {source.digest: place for place, source in enumerate(sources)}
    columns = [
        _recorded_dtypes(plan, recorded[entry.digest], shown)
        if entry.digest in recorded
        else _read_dtypes(plan, places[entry.digest])
        for entry in members.after
    ]
    rows = zip(plan.kept, zip(*columns, strict=True), strict=True)
    return {
        step.name: given[step.name] or narrowest(frozenset(dtypes))
        for step, dtypes in rows
        if step.rule is Rule.AVERAGE
    }


def _read_dtypes(plan: Plan, source: int) -> list[DType]:
    """The dtypes that a source has of the plan's tensors."""
    return [step.dtypes[step.sources.index(source)] for step in plan.kept]


def _recorded_dtypes(plan: Plan, runs: Runs, shown: str) -> list[DType]:
    """The dtypes that a sum records of an ingredient; LedgerError if its tensors are others."""
    # the recorded value may be of any length
    found = list(islice(expand_runs(runs), len(plan.kept) + 1))
    averaged = [
        dtype for dtype, step in zip(found, plan.kept, strict=False) if step.rule is Rule.AVERAGE
    ]
    if len(found) != len(plan.kept) or any(dtype not in FLOATS for dtype in averaged):
        what = "records dtypes of an ingredient that do not fit its tensors"
        raise LedgerError(what, path=shown, advice=REMOVE)
    return found
