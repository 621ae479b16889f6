"""Sums over the elements of two tensors, from which norms and cosines follow.

Rule 1: these figures describe tensors and never become part of one: they are right to a dozen
digits, not to the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum, sqrt


@dataclass(frozen=True, slots=True)
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
        """The norm of the difference over that of the first; None if the first is all zeros."""
        return sqrt(self.change / self.one) if self.one else None

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle between both; None if either is all zeros."""
        norms = sqrt(self.one) * sqrt(self.other)
        return max(-1.0, min(1.0, self.product / norms)) if norms else None


def joined(parts: Iterable[Moments]) -> Moments:
    """The sums over all parts together, which do not depend on their order."""
    every = list(parts)
    return Moments(
        elements=sum(each.elements for each in every),
        differing=sum(each.differing for each in every),
        nonfinite=sum(each.nonfinite for each in every),
        one=fsum(each.one for each in every),
        other=fsum(each.other for each in every),
        product=fsum(each.product for each in every),
        change=fsum(each.change for each in every),
        largest=max((each.largest for each in every), default=0.0),
    )
