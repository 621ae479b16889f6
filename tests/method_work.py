"""Combining arrays by a method as the executor does: block by block, after all surveys."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from soupctl.choices import MergeMethod
from soupctl.methods.combinations import combination_of
from soupctl.methods.contract import Values
from soupctl.methods.settings import MergedTensor, MethodSettings


def combined(
    settings: MethodSettings, arrays: Sequence[Values], name: str = "layer.weight"
) -> Values:
    """What a method makes of a tensor that each model has, the base first if there is one."""
    tensor = MergedTensor(name, arrays[0].shape)
    flat = [each.astype(np.float64).ravel() for each in arrays]
    combination = combination_of(settings, tensor)
    starts = range(0, tensor.count, combination.block)

    def rows(start: int) -> list[Values]:
        return [each[start : start + combination.block] for each in flat]

    while combination.needs_survey:
        for start in starts:
            combination.survey(rows(start))
        combination.end_survey()
    weights = combination.exact_weights()
    if weights is not None:
        whole, divisor = weights
        total = sum(weight * each for weight, each in zip(whole, flat, strict=True))
        return np.asarray(total / divisor).reshape(tensor.shape)
    found = [combination.combine(rows(start)) for start in starts]
    return np.concatenate([*found, np.empty(0)]).reshape(tensor.shape)


def settings(method: str, models: int = 3, **others: object) -> MethodSettings:
    """The settings of a method with equal weights, unless others are given."""
    given: dict[str, object] = {"weights": (Fraction(1),) * models, **others}
    return MethodSettings(MergeMethod(method), **given)  # type: ignore[arg-type]


def fine_tunes(count: int, *shape: int, seed: int = 0) -> list[Values]:
    """A base and so many models near it."""
    draw = np.random.default_rng(seed)
    base = draw.normal(0, 1, shape)
    return [base, *(base + draw.normal(0, 0.1, shape) for _ in range(count))]
