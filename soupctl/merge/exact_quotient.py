"""Exact sums divided by a whole number, where that leaves no remainder."""

from __future__ import annotations

from collections.abc import Sequence

from ..engines.contract import Engine, WeightedMean
from ..engines.planes import count_present
from ..format.dtypes import DType
from .chunks import PLANE_BYTES

MOST_PARTS = 12
"""Most planes of a quotient that are tried; no kept sum has as many."""


def divided(planes: Sequence[memoryview], divisor: int, engine: Engine) -> list[memoryview] | None:
    """The planes of an exact sum divided by `divisor`; None if any element leaves a remainder.

    Each plane holds the float64 nearest to what those before it leave, as those of a sum do.
    """
    count = len(planes[0]) // PLANE_BYTES
    rest = list(planes)
    found: list[memoryview] = []
    while len(found) < MOST_PARTS:
        ones = WeightedMean((DType.F64,) * len(rest), (1,) * len(rest), DType.F64, divisor=divisor)
        nearest = memoryview(bytearray(len(planes[0])))
        engine.prepare(ones, rest)(0, count, nearest)
        found.append(nearest)
        # the remainder shrinks with each plane, and is zero in the end if the quotient is exact
        weights = (*ones.weights, -divisor)
        left = WeightedMean((*ones.dtypes, DType.F64), weights, DType.F64, divisor=1)
        first = memoryview(bytearray(len(planes[0])))
        others = engine.prepare_sum(left, [*rest, nearest])(0, count, first)
        if not others and not count_present(first):
            return found
        if not count_present(nearest):
            return None
        rest = [first, *others]
    return None
