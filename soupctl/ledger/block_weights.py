"""A weight that may differ by block; a block is the tensors that a glob matches.

Rule 1: a weight that is the same in every block is stored once, so equal weights are equal values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import starmap
from operator import add

from ..frozen import frozen

WeightTuple = tuple[Fraction, ...]


@frozen
class WeightByBlock:
    """An exact weight in each block of a ledger, and in tensors of no block."""

    usual: Fraction
    """The weight in tensors of no block."""
    blocks: WeightTuple = ()
    """The weight in each block; empty if it is the usual one in all of them."""

    def __post_init__(self) -> None:
        """Drop weights by block that all equal the usual one."""
        if self.blocks and all(weight == self.usual for weight in self.blocks):
            object.__setattr__(self, "blocks", ())

    def __bool__(self) -> bool:
        """Whether it is not zero everywhere."""
        return bool(self.usual or self.blocks)

    def __add__(self, other: WeightByBlock) -> WeightByBlock:
        if not (self.blocks or other.blocks):
            return WeightByBlock(self.usual + other.usual)
        count = len(self.blocks or other.blocks)
        pairs = zip(self.spread(count), other.spread(count), strict=True)
        return WeightByBlock(self.usual + other.usual, tuple(add(*pair) for pair in pairs))

    def __mul__(self, factor: Fraction | int) -> WeightByBlock:
        return self.mapped(lambda weight: weight * factor)

    def times(self, other: WeightByBlock) -> WeightByBlock:
        """The product in each block."""
        count = len(self.blocks or other.blocks)
        pairs = zip(self.spread(count), other.spread(count), strict=True)
        return WeightByBlock(self.usual * other.usual, tuple(one * two for one, two in pairs))

    def __neg__(self) -> WeightByBlock:
        return self * -1

    def __sub__(self, other: WeightByBlock) -> WeightByBlock:
        return self + -other

    def spread(self, count: int) -> WeightTuple:
        """The weight in each of `count` blocks."""
        return self.blocks or (self.usual,) * count

    def mapped(self, change: Callable[[Fraction], Fraction]) -> WeightByBlock:
        """The result of a function of each of its weights."""
        return WeightByBlock(change(self.usual), tuple(map(change, self.blocks)))


NO_WEIGHT = WeightByBlock(Fraction(0))


def summed(weights: Iterable[WeightByBlock]) -> WeightByBlock:
    """The sum of weights."""
    every = list(weights)
    if any(each.blocks for each in every):
        return sum(every, NO_WEIGHT)
    return WeightByBlock(exact_sum(each.usual for each in every))


def exact_sum(weights: Iterable[Fraction]) -> Fraction:
    """The sum of weights; those of one denominator are added as whole numbers, which is fast."""
    numerators: dict[int, int] = {}
    for weight in weights:
        numerator, denominator = weight.as_integer_ratio()
        numerators[denominator] = numerators.get(denominator, 0) + numerator
    return sum(starmap(Fraction, ((n, d) for d, n in numerators.items())), Fraction(0))
