"""The weights of a step as whole numbers, from those of a recipe.

Rule 1: a weight is a function of tensor and ingredient; tensors with equal weights share one value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import translate
from fractions import Fraction
from functools import cache, lru_cache
from math import lcm

from ..errors import UsageError
from ..frozen import frozen
from ..ledger.weights import LARGEST, TOO_FINE, scaled
from .recipe import Recipe


@frozen
class StepWeights:
    """Whole-number weights, one for each source of a step, and the divisor of their sum."""

    whole: tuple[int, ...]
    """One weight for each source; 0 if it does not count for the tensor."""
    divisor: int
    shrink: int = 1
    """A factor of the divisor that divides every exact sum, so that a kept sum is smaller."""

    @property
    def counted(self) -> tuple[int, ...]:
        """The indices of the sources that count."""
        return tuple(place for place, weight in enumerate(self.whole) if weight)


ALONE = StepWeights((1,), 1)
"""The weights of a tensor that only one source has."""
NO_WEIGHTS = StepWeights((), 1)
"""The weights of a tensor that is not in the soup."""


def step_weights(asked: Sequence[Fraction]) -> StepWeights:
    """The weights as whole numbers without a common factor, and their total.

    Raises UsageError if all are zero, and where `scaled` does.
    """
    counted = [weight for weight in asked if weight]
    if not counted:
        raise UsageError("the weights are all zero", advice="one ingredient must count")
    whole = iter(scaled(counted))
    spread = tuple(next(whole) if weight else 0 for weight in asked)
    return StepWeights(spread, sum(spread))


def undivided_weights(asked: Sequence[Fraction]) -> StepWeights:
    """The weights of a sum that is not divided by their total, as whole numbers.

    Raises UsageError if all are zero or they are too fine.
    """
    if not any(asked):
        raise UsageError("the weights are all zero", advice="one ingredient must count")
    divisor = lcm(*(weight.denominator for weight in asked))
    whole = tuple(int(weight * divisor) for weight in asked)
    if max(divisor, abs(sum(whole)), *map(abs, whole)) > LARGEST:
        raise UsageError(TOO_FINE, advice="give weights of fewer digits")
    return StepWeights(whole, divisor)


@lru_cache(maxsize=64)
def weights_among(weights: StepWeights, sources: tuple[int, ...]) -> StepWeights:
    """The weights of the sources that have a tensor, among those of all.

    Raises UsageError if their total is zero.
    """
    if not any(weights.whole[source] for source in sources):
        what = "the weights of the ingredients that have it are all zero"
        raise UsageError(what, advice="--on-missing drop leaves out what not all have")
    if len(sources) == 1:
        # the mean of a single tensor is that tensor, whatever its weight
        return ALONE
    whole = tuple(weights.whole[source] for source in sources)
    if sum(whole) <= 0:
        what = f"the weights of the ingredients that have a tensor add up to {sum(whole)}"
        raise UsageError(what, advice="--on-missing drop leaves out what not all have")
    return StepWeights(whole, sum(whole))


def usual_weights(recipe: Recipe) -> StepWeights:
    """The weights of tensors in no block; UsageError if `scaled` raises it.

    Only the weights of a soup with blocks may be zero.
    """
    if not recipe.normalize:
        return undivided_weights(recipe.weights)
    if recipe.blocks:
        return step_weights(recipe.weights)
    whole = scaled(recipe.weights)
    return StepWeights(whole, sum(whole))


@contextmanager
def naming(tensor: str) -> Iterator[None]:
    """Add the tensor's name to errors about its weights."""
    try:
        yield
    except UsageError as error:
        raise UsageError.collected(replace(each, tensor=tensor) for each in error.issues) from None


@cache
def equal_weights(count: int) -> StepWeights:
    """The weights of a tensor that is the same in that many sources."""
    return StepWeights((1,) * count, count)


def weights_by_tensor(recipe: Recipe) -> Callable[[str], StepWeights]:
    """A function from a tensor's name to its weights; raises UsageError for impossible ones."""
    blocks = [(re.compile(translate(glob)).match, asked) for glob, asked in recipe.blocks]
    usual = usual_weights(recipe)
    shared = cache(step_weights if recipe.normalize else undivided_weights)

    def weights_of(tensor: str) -> StepWeights:
        for match, asked in blocks:
            if match(tensor):
                with naming(tensor):
                    return shared(asked)
        return usual

    return weights_of
