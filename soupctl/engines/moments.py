"""Sums over the elements of two tensors, from which norms and cosines follow.

Rule 1: these figures describe tensors and never become part of one: they are right to a dozen
digits, not to the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, isfinite, nan, sqrt

from ..frozen import frozen


def total(values: Iterable[float]) -> float:
    """The sum of floats in any order, rounded once; NaN if it is beyond the range of F64."""
    try:
        return fsum(values)
    except (OverflowError, ValueError):
        # raised for an overflow on the way, and for infinities of both signs
        return nan


def relative_norm(change: float, base: float) -> float | None:
    """The root of the ratio of two sums of squares; None over zero, or beyond the range of F64."""
    return sqrt(change / base) if base and isfinite(change) and isfinite(base) else None


def cosine(product: float, one: float, other: float) -> float | None:
    """The cosine by a sum of products and two sums of squares, with None as in `relative_norm`."""
    norms = sqrt(one) * sqrt(other)
    if not norms or not isfinite(norms) or not isfinite(product):
        return None
    return max(-1.0, min(1.0, product / norms))


@frozen
class Moments:
    """Sums over pairs of elements; pairs with NaN or infinity are only counted."""

    elements: int = 0
    differing: int = 0
    """Pairs of different values; NaN equals NaN."""
    nonfinite: int = 0
    """Pairs of which one is NaN or infinite, or whose difference is."""
    one: float = 0.0
    """The sum of the squares of the first of each pair."""
    other: float = 0.0
    """The sum of the squares of the second."""
    product: float = 0.0
    """The sum of the products."""
    change: float = 0.0
    """The sum of the squares of the differences."""
    largest: float = 0.0
    """The largest magnitude of a difference."""

    @property
    def relative_change(self) -> float | None:
        """The norm of the difference over that of the first; see `relative_norm`."""
        return relative_norm(self.change, self.one)

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle between both; see `cosine`."""
        return cosine(self.product, self.one, self.other)


def joined(parts: Iterable[Moments]) -> Moments:
    """The sums over all parts together, which do not depend on their order."""
    every = list(parts)
    return Moments(
        elements=sum(each.elements for each in every),
        differing=sum(each.differing for each in every),
        nonfinite=sum(each.nonfinite for each in every),
        one=total(each.one for each in every),
        other=total(each.other for each in every),
        product=total(each.product for each in every),
        change=total(each.change for each in every),
        largest=max((each.largest for each in every), default=0.0),
    )
