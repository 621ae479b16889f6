"""Updates of adapters as terms of a weighted sum.

Rule 1: the scale of an update is multiplied into its weight, and all weights are made whole again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import lcm, prod
from typing import TYPE_CHECKING

from ..engines.contract import Engine, WeightedMean
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.weights import LARGEST, TOO_FINE
from .adapter_reader import AdapterReader, ScaledUpdate
from .kept_sum.reader import Source
from .step import Step
from .step_weights import StepWeights

if TYPE_CHECKING:
    from ..engines.placed_updates import PlacedUpdate
    from ..engines.update_mean import UpdatedMean
    from ..engines.update_sum import UpdatedSum


@frozen
class WeightedUpdate:
    """An update with the whole-number weight of its adapter in a step."""

    scaled: ScaledUpdate
    weight: int


def updates_of(sources: Sequence[Source], step: Step) -> list[WeightedUpdate]:
    """The updates that a step's sources add to its tensor, read into memory."""
    return [
        WeightedUpdate(each, weight)
        for source, weight in zip(sources, step.weights.whole, strict=True)
        if weight and isinstance(source, AdapterReader)
        for each in source.updates(step.name)
    ]


def prepare_updated(
    mean: WeightedMean,
    rows: Sequence[memoryview],
    updates: Sequence[WeightedUpdate],
    shape: Sequence[int],
) -> UpdatedMean:
    """The mean of rows, plus updates of a tensor of this shape."""
    from ..engines.update_mean import UpdatedMean

    factor = _factor(mean.total, [(each.weight, each.scaled.scale) for each in updates])
    weights = tuple(int(weight * factor) for weight in mean.weights)
    whole = replace(mean, weights=weights, divisor=int(mean.total * factor))
    return UpdatedMean(whole, rows, _placed(updates, factor), prod(shape[1:]))


def prepare_updated_sum(
    mean: WeightedMean,
    rows: Sequence[memoryview],
    updates: Sequence[WeightedUpdate],
    shape: Sequence[int],
    engine: Engine,
) -> UpdatedSum:
    """The exact sum of rows and updates, whose weights times their scales are whole numbers."""
    from ..engines.update_sum import UpdatedSum

    return UpdatedSum(engine, mean, rows, _placed(updates, Fraction(1)), prod(shape[1:]))


def _placed(updates: Sequence[WeightedUpdate], factor: Fraction) -> list[PlacedUpdate]:
    """The updates at their places, with the scale of each in its weight, times a factor."""
    from ..engines.placed_updates import PlacedUpdate

    return [
        PlacedUpdate(
            each.scaled.update,
            int(each.weight * each.scaled.scale * factor),
            each.scaled.first,
            each.scaled.count,
            each.scaled.target,
        )
        for each in updates
    ]


def _factor(divisor: int, scaled: Iterable[tuple[int, Fraction]]) -> Fraction:
    """The smallest factor that makes all weights over a divisor whole."""
    shares = [Fraction(weight, divisor) * scale for weight, scale in scaled]
    return Fraction(lcm(divisor, *(share.denominator for share in shares)), divisor)


def require_whole(weights: StepWeights, scales: Sequence[tuple[int, Fraction]]) -> None:
    """Raise UsageError for scales that are too fine for whole-number weights.

    `scales` are those of updates, each with the weight of its adapter.
    """
    factor = _factor(weights.divisor, scales)
    every: list[Fraction] = [weight * scale for weight, scale in scales]
    every += [Fraction(weight) for weight in (*weights.whole, weights.divisor)]
    if max(abs(each * factor) for each in every) > LARGEST:
        raise UsageError(TOO_FINE, advice="give scales of fewer digits")
