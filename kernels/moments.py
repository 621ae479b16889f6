"""Sums over pairs of elements: squares, products, differences.

Rule 1: each sum is kept in lanes, so that the loop is vectorised without reordering an addition.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.core.typing import Signature

from .floats import ROW_TYPES, widen
from .sums import FLOATS
from .tables import CHANGE, DIFFERING, LANES, LARGEST_CHANGE, NONFINITE, ONE, OTHER, PRODUCT


def signature(one: str, other: str) -> Signature:
    """The signature of `moments` for elements of the types of these names."""
    rows = (types.CPointer(ROW_TYPES[name]) for name in (one, other))
    return types.int64(*rows, types.int64, FLOATS)


SIGNATURES = {"moments": signature}


def moments(one, other, count, found):  # type: ignore[no-untyped-def]
    """Add to the lanes in `found` what `count` pairs of elements contribute; returns 0.

    Pairs with NaN or infinity, or an infinite difference, are only counted.
    """
    for place in range(0, count, LANES):
        for i in range(min(LANES, count - place)):
            # numba computes with a widened float32 in float32
            a = np.float64(widen(one, place + i))
            b = np.float64(widen(other, place + i))
            difference = b - a
            is_finite = abs(difference) < math.inf
            both_nan = (a != a) & (b != b)  # noqa: PLR0124
            found[DIFFERING + i] += 1.0 if (a != b) & (not both_nan) else 0.0
            found[NONFINITE + i] += 0.0 if is_finite else 1.0
            x = a if is_finite else 0.0
            y = b if is_finite else 0.0
            change = difference if is_finite else 0.0
            found[ONE + i] += x * x
            found[OTHER + i] += y * y
            found[PRODUCT + i] += x * y
            found[CHANGE + i] += change * change
            found[LARGEST_CHANGE + i] = max(found[LARGEST_CHANGE + i], abs(change))
    return 0
