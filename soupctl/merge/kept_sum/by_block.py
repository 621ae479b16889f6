"""The whole weights of a sum of a soup with weights by block.

Rule 1: one scale makes the weights of all blocks whole, so that one number in the sum's record and
the weights in its ledger say what it holds.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

from ...errors import UsageError
from ...ledger.weights import LARGEST, TOO_FINE
from ..plan import Plan, among
from ..recipe import Recipe, any_match, first_match
from ..step import Rule, Step
from ..step_weights import StepWeights
from .format import NO_SUM


def scaled_by_block(plan: Plan, recipe: Recipe, scale: Fraction) -> Plan:
    """The plan with its weights times this scale; UsageError where they are not whole or too large.

    A tensor that is taken from one source, or that only one of several has, stays itself.
    """
    weights_of = first_match(recipe.blocks)
    is_taken = any_match(tuple(glob for glob, _ in recipe.takes))
    scaled = cache(lambda asked: _whole(asked, scale, recipe.normalize))

    def is_itself(step: Step) -> bool:
        return is_taken(step.name) or len(step.sources) == 1 < len(recipe.weights)

    steps = (
        replace(step, weights=among(scaled(weights_of(step.name) or recipe.weights), step.sources))
        if step.rule is Rule.AVERAGE and not is_itself(step)
        else step
        for step in plan.steps
    )
    return replace(plan, weights=scaled(recipe.weights), steps=tuple(steps))


def _whole(asked: tuple[Fraction, ...], scale: Fraction, normalize: bool) -> StepWeights:
    total = sum(asked, Fraction(0)) if normalize else Fraction(1)
    whole = [weight * scale for weight in (*asked, total)]
    if any(each.denominator != 1 or abs(each) > LARGEST for each in whole):
        raise UsageError(f"{TOO_FINE}, with one scale for all blocks", advice=NO_SUM)
    *weights, divisor = map(int, whole)
    return StepWeights(tuple(weights), divisor)
