"""Exact sums of a few float64 arrays as expansions, computed by whole arrays.

Rule 1: passes of Knuth's TwoSum, from the last array to the first, until nothing changes: then each
value is the nearest float64 to itself plus the next one. See Ogita, Rump and Oishi, "Accurate Sum
and Dot Product" (2005), algorithm 4.3; the planes are those of `expansion`.
Rule 2: elements where the next value is exactly half a unit, and another one follows, are
reported: there the nearest float64 may be another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .exact_planes import multiply
from .updates import Floats

LARGEST = 2.0**900
SMALLEST = 2.0**-900
"""Sizes between which no product or sum of a few numbers over- or underflows."""
WIDEST_WEIGHT = 1 << 53
BEYOND = 1 + 2.0**-51
PASSES_MORE = 8

Distilled = tuple[list[Floats], NDArray[np.intp]]
"""The planes, and the elements for which they may not be the nearest ones."""


def distilled(terms: Sequence[tuple[Floats, int]]) -> Distilled | None:
    """The planes of the sum of values times weights; None if their sizes need other arithmetic."""
    planes: list[Floats] = []
    for values, weight in terms:
        if abs(weight) > WIDEST_WEIGHT or not _is_moderate(values):
            return None
        if abs(weight).bit_count() == 1:
            planes.append(values * float(weight))
        else:
            factor = np.full((1, len(values)), float(weight))
            planes.extend(multiply(values[None], factor))
    for _ in range(len(planes) + PASSES_MORE):
        if not _pass(planes):
            while len(planes) > 1 and not planes[-1].any():
                planes.pop()
            # a sum of zeros has no sign
            return [plane + 0.0 for plane in planes], _ties(planes)
    return None


def _is_moderate(values: Floats) -> bool:
    """Whether all values are finite, and zero or of a moderate size."""
    sizes = np.abs(values)
    return bool(((sizes == 0) | ((sizes >= SMALLEST) & (sizes <= LARGEST))).all())


def _pass(planes: list[Floats]) -> bool:
    """Add each array into the one before, and keep what is rounded off; whether any changed."""
    changed = False
    for number in range(len(planes) - 1, 0, -1):
        one, other = planes[number - 1], planes[number]
        total = one + other
        if np.array_equal(total, one):
            continue
        changed = True
        part = total - one
        planes[number] = (one - (total - part)) + (other - part)
        planes[number - 1] = total
    return changed


def _ties(planes: Sequence[Floats]) -> NDArray[np.intp]:
    """The elements whose nearest float64 depends on more than the next value."""
    found = np.zeros(len(planes[0]), bool)
    for one, other, rest in zip(planes, planes[1:], planes[2:], strict=False):
        found |= (rest != 0) & (one + other * BEYOND != one)
    return np.flatnonzero(found)
