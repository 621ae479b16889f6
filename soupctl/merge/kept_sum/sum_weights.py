"""The weights of ingredients in a kept sum, deltas and adapters among them.

Rule 1: models have their weights; a delta or an adapter has its scale times the total weight of the
models, so that it is divided by that like them.
Rule 2: one scale makes the weights of all blocks whole, and those of all updates of an adapter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache

from ...errors import UsageError
from ...ledger.block_weights import WeightByBlock, summed
from ...ledger.ledger import IngredientEntry
from ...ledger.weights import LARGEST, TOO_FINE
from ..adapter_reader import AdapterReader
from ..plan import Plan
from ..recipe import first_match
from ..step import Rule, Step
from ..step_weights import StepWeights, naming
from ..updates import require_whole
from .format import NO_SUM, smallest_scale
from .reader import Source


def sum_weights(
    ingredients: Iterable[IngredientEntry],
    added: Collection[str],
    denominators: Mapping[str, int] | None = None,
) -> dict[str, WeightByBlock]:
    """The weight of each ingredient in a sum of scale 1, by content digest.

    `added` are the digests of deltas and adapters. That of an adapter with a denominator in
    `denominators` is the weight of its updates times that.
    """
    every = list(ingredients)
    total = summed(each.weights for each in every if each.digest not in added)
    known = denominators or {}
    return {
        each.digest: each.weights.times(total) * Fraction(1, known.get(each.digest, 1))
        if each.digest in added
        else each.weights
        for each in every
    }


def scaled_together(
    plan: Plan,
    sources: Sequence[Source],
    weights: Sequence[WeightByBlock],
    globs: Sequence[str],
    models: int,
    scale: Fraction | None = None,
) -> tuple[Plan, Fraction]:
    """The plan with whole weights of one scale, and the scale: the smallest if none is given.

    `weights` are the weights and scales of the sources, of which the first `models` are models.
    Raises UsageError where they would be too large.
    """
    total = summed(weights[:models])
    own = [*weights[:models], *(each.times(total) for each in weights[models:])]
    if scale is None:
        scale = smallest_scale(
            each * Fraction(1, source.denominator if isinstance(source, AdapterReader) else 1)
            for each, source in zip(own, sources, strict=True)
        )
    block_of = first_match([(glob, place) for place, glob in enumerate(globs)])

    @cache
    def whole(block: int | None) -> StepWeights:
        every = [
            (each.usual if block is None else each.spread(len(globs))[block]) * scale
            for each in (*own, total)
        ]
        if any(each.denominator != 1 or abs(each) > LARGEST for each in every):
            raise UsageError(f"{TOO_FINE}, with one scale for all", advice=NO_SUM)
        *found, divisor = map(int, every)
        return StepWeights(tuple(found), divisor)

    def weighted(step: Step) -> Step:
        if step.rule is not Rule.AVERAGE:
            return step
        with naming(step.name):
            every = whole(block_of(step.name))
            chosen = tuple(every.whole[source] for source in step.sources)
            own = StepWeights(chosen, every.divisor)
            updates = list(_updates(step, own, sources))
            require_whole(own, updates)
            if any((weight * scale).denominator > 1 for weight, scale in updates):
                raise UsageError(TOO_FINE, advice=NO_SUM)
        return replace(step, weights=own)

    steps = tuple(map(weighted, plan.steps))
    return replace(plan, weights=whole(None), steps=steps), scale


def _updates(
    step: Step, weights: StepWeights, sources: Sequence[Source]
) -> Iterable[tuple[int, Fraction]]:
    """The scales of the updates of a step, each with the weight of its adapter."""
    for place, weight in zip(step.sources, weights.whole, strict=True):
        source = sources[place]
        if weight and isinstance(source, AdapterReader):
            yield from ((weight, scale) for scale in source.scales(step.name))
