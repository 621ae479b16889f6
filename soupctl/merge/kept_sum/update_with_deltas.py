"""Computing a changed soup that deltas are applied in from its kept sum and from what changes.

Rule 1: the result is that of a recomputation, as in `update.py`; where the sum says too little, it
is computed from all ingredients.
Rule 2: if models are added to a mean or taken out of it, its deltas are read too, since they are
not divided by the total weight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from ...checkpoints.checkpoint import Checkpoint
from ...choices import Method
from ...frozen import frozen
from ...ledger.block_weights import NO_WEIGHT, WeightByBlock, summed
from ...ledger.ledger import Ledger, runs
from ...lora.modules import is_adapter
from ...lora.targets import is_text_encoder
from ..adapter_reader import AdapterReader
from ..aligned import Alignment, align
from ..applied_plan import Delta, plan_applied
from ..applied_sources import adapter_of, component_of, deltas_again, with_deltas
from ..facts import facts_of_source
from ..identical import require_identical
from ..membership import Membership
from ..opened_inputs import OpenedInputs
from ..plan import Plan
from ..recipe import first_match
from ..sources import (
    Computation,
    Source,
    explained_by_digests,
    is_added,
    plain_recipe,
    selector_of,
)
from ..step import Rule, Step
from ..step_weights import StepWeights
from .dtypes import dtypes_by_ingredient, filled, with_dtypes
from .format import SumUpdate, sum_update
from .holders import holders_of
from .opened import OpenedSum
from .record import SummedSource
from .sufficient import are_stored, has_names, is_recorded
from .sum_weights import sum_weights


def computed_with_deltas(
    inputs: OpenedInputs,
    soup: Checkpoint,
    members: Membership,
    kept: OpenedSum,
    placed: Collection[str],
) -> Computation | None:
    """The change computed from the soup's sum; None if more must be read.

    Modules of the adapters `placed` need not be in this component. Raises MismatchError for an
    ingredient that does not fit the sum.
    """
    if _is_fine(members):
        return None
    changed = _changed(inputs, soup, members, kept)
    if changed is None:
        return None
    adapters = [each for each in changed.sources[1:] if is_adapter(each.checkpoint.tensors)]
    if adapters and not _may_locate(members.before, soup, kept):
        return None
    return _computed(soup, members, kept, changed, placed)


@frozen
class _Changed:
    """The sources of a change: first the sum, then models, then deltas."""

    sources: tuple[Source, ...]
    update: SumUpdate
    shrink: int
    """The divisor of the new sum."""
    denominators: Mapping[str, int]
    """The denominators of adapters' scales that are not 1, by content digest."""


def _is_fine(members: Membership) -> bool:
    """Whether a single delta of scale 1 may be left, which FINE comes of on its own base."""
    before = members.before
    if before.base is None or len(members.added) != 1:
        return False
    (only,) = (entry for entry in members.after if entry.digest in members.added)
    known = members.ancestry.of([only.digest]).ledgers.get(only.digest)
    is_delta = known is not None and known.is_delta
    return only.weights == WeightByBlock(Fraction(1)) and (
        is_delta or only.digest in before.disputed
    )


def _changed(
    inputs: OpenedInputs, soup: Checkpoint, members: Membership, kept: OpenedSum
) -> _Changed | None:
    """The sources of a change with their whole weights; None if one is missing, or too large."""
    before, after = members.before, members.after
    entries = {entry.digest: entry for entry in (*before.ingredients, *after)}
    every_added = before.added | members.added
    denominators = kept.denominators
    for digest in sorted(members.added - before.added):
        checkpoint = inputs.find(entries[digest], soup)
        if checkpoint is not None and is_adapter(checkpoint.tensors):
            denominators[digest] = adapter_of(checkpoint).denominator
    old = sum_weights(before.ingredients, before.added, denominators)
    new = sum_weights(after, members.added, denominators)
    differences = {
        digest: new.get(digest, NO_WEIGHT) - old.get(digest, NO_WEIGHT)
        for digest in sorted(old.keys() | new.keys(), key=lambda each: (each in every_added, each))
    }
    changes = {digest: weight for digest, weight in differences.items() if weight}
    update = sum_update(kept.scale, [*changes.values()], new.values())
    if update is None:
        return None
    sources = [Source(kept.facts.root, kept.reader, WeightByBlock(Fraction(update.factor)))]
    for digest, weight in zip(changes, update.weights, strict=True):
        checkpoint = inputs.find(entries[digest], soup)
        if checkpoint is None:
            return None
        sources.append(Source(digest, checkpoint, weight * denominators.get(digest, 1)))
    return _Changed(tuple(sources), update, update.shrink(new.values()), denominators)


def _may_locate(before: Ledger, soup: Checkpoint, kept: OpenedSum) -> bool:
    """Whether an adapter has the places in the sum that it has in the base, or is refused as there.

    The sum lacks what is left out of the soup, and does not say what was quantised, nor which of
    several text encoders it is of.
    """
    if before.keys or before.excludes or any(entry.schemes for entry in before.ingredients):
        return False
    return bool(component_of(soup)) or not is_text_encoder(kept.reader.tensors)


def _computed(
    soup: Checkpoint,
    members: Membership,
    kept: OpenedSum,
    changed: _Changed,
    placed: Collection[str],
) -> Computation | None:
    """The computation from these sources; None if the sum says too little."""
    before, sources = members.before, changed.sources
    count = 1 + sum(not is_added(each.checkpoint) for each in sources[1:])
    models = align([each.checkpoint for each in sources[:count]], selector_of(before))
    component = component_of(soup)
    recorded = {*before.added, *placed}
    deltas = deltas_again(before, sources[count:], models.sources[0], component, recorded)
    alignment = with_deltas(models, deltas)
    digests = [each.digest for each in sources[1:]]
    read = dict(zip(digests, alignment.sources[1:], strict=True))
    holders = holders_of(before.ingredients, members.after, read, kept.reader)
    renamed = dict(zip(digests, alignment.renamed[1:], strict=True))
    if not (has_names(members, renamed) and is_recorded(members, models, holders)):
        return None
    plan = _weighted(_plan(before, sources, models, deltas), members, changed)
    if plan is None or not are_stored(kept.reader, plan):
        return None
    undecided = {
        digest for digest, each in read.items() if isinstance(each, AdapterReader)
    } - kept.dtypes.keys()
    columns = dtypes_by_ingredient(plan, sources, kept.dtypes, kept, members, holders, undecided)
    plan = with_dtypes(plan, columns, members)
    if plan is None:
        return None
    unread = [each.digest for each in before.ingredients if each.digest not in read]
    return Computation(
        Method.SUM,
        tuple(sources),
        plan,
        changed.update.scale / changed.shrink,
        alignment,
        recorded={
            digest: SummedSource(
                runs(filled(plan, column, is_added=digest in members.added)),
                changed.denominators.get(digest, 1),
            )
            for digest, column in columns.items()
        },
        lacks=dict.fromkeys(unread, ()),
    )


def _plan(
    before: Ledger, sources: Sequence[Source], models: Alignment, deltas: Sequence[Delta]
) -> Plan:
    """The plan of the change, without its weights, and dtypes of what remains."""
    ones = [WeightByBlock(Fraction(1))] * len(sources)
    recipe = plain_recipe(before, ones, first=before.integer_source is not None)
    facts = [facts_of_source(source) for source in models.sources]
    with explained_by_digests(sources):
        plan = plan_applied(recipe, models.sources, deltas, facts)
        require_identical(plan, (*models.sources, *deltas))
    return plan


def _weighted(plan: Plan, members: Membership, changed: _Changed) -> Plan | None:
    """The plan with the weights of the change; None if some tensor would have no positive total."""
    globs, update = members.blocks, changed.update
    block_of = first_match([(glob, place) for place, glob in enumerate(globs)])
    weights = [each.weights for each in changed.sources]
    models = (each.weights for each in members.after if each.digest not in members.added)
    total = summed(models) * update.scale
    steps: list[Step] = []
    for step in plan.steps:
        block = block_of(step.name)
        divisor, *own = (
            int(each.usual if block is None else each.spread(len(globs))[block])
            for each in (total, *(weights[place] for place in step.sources))
        )
        if step.rule is not Rule.AVERAGE:
            steps.append(step)
        elif divisor > 0:
            whole = StepWeights(tuple(own), divisor, changed.shrink)
            steps.append(replace(step, weights=whole))
        else:
            return None
    return replace(plan, steps=tuple(steps))
