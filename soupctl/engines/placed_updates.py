"""Updates at their places in a tensor, and their exact terms in a sum of its elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..format.dtypes import DType
from ..frozen import frozen
from .contract import WeightedMean
from .updates import Floats, Places, Update

EXACT_TERMS = 1 << 18
"""Float64s of exact products that are computed at a time."""


@frozen
class PlacedUpdate:
    """Rows of an update, added to as many rows of a tensor as a matrix."""

    update: Update
    weight: int
    """Whole-number weight; the divisor is that of the mean."""
    first: int
    """The first of its rows that are used."""
    rows: int
    """The number of rows that are used."""
    target: int
    """The row of the tensor that the first is added to."""


def exact_terms(
    updates: Sequence[PlacedUpdate], elements: Places, columns: int
) -> list[tuple[Floats, int]]:
    """The terms of some elements of a tensor with so many columns: float64s with their weights.

    The terms of an update add up to it without rounding.
    """
    rows, across = np.divmod(elements, columns)
    found = []
    for each in updates:
        inside = (rows >= each.target) & (rows < each.target + each.rows)
        if not inside.any():
            continue
        exact = each.update.exact(each.first + rows[inside] - each.target, across[inside])
        for term in exact:
            plane = np.zeros(len(elements))
            plane[inside] = term
            found.append((plane, each.weight))
    return found


def with_terms(mean: WeightedMean, weights: Sequence[int]) -> WeightedMean:
    """The mean with further float64 terms of these weights, over its own divisor."""
    return replace(
        mean,
        dtypes=(*mean.dtypes, *(DType.F64 for _ in weights)),
        weights=(*mean.weights, *weights),
        divisor=mean.total,
    )
