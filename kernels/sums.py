"""Weighted sums of one tile, row by row, with their rounding errors.

Rule 1: the exact sum is total + low + r, where |r| is at most the exact sum behind `size`; `size`
itself is a float64 sum of non-negative numbers, so twice it bounds |r| for any number of terms.
Rule 2: what is not finite, or overflowed on the way, makes total, low or size not finite.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import overload, register_jitable

from .floats import LOW_HALF, ROW_TYPES, bits_of, float_of, two_sum, widen
from .tables import TILE

FLOATS = types.CPointer(types.float64)
INTEGERS = types.CPointer(types.int64)

# offset of each part in the float64 scratch of a tile: one pointer with constant offsets shows the
# compiler that the parts do not overlap
TOTAL, LOW, SIZE, QUOTIENT, DOUBT = 0, TILE, 2 * TILE, 3 * TILE, 3 * TILE


def signature(rows_of: str) -> Signature:
    """The signature of both sums for rows of the type of that name."""
    rows = types.CPointer(types.CPointer(ROW_TYPES[rows_of]))
    whole = types.int64
    return types.int64(rows, FLOATS, whole, whole, whole, whole, FLOATS)


SIGNATURES = {"add_bounded": signature, "add_proved": signature}


def add_bounded(rows, weights, first, last, start, length, tile):  # type: ignore[no-untyped-def]
    """Add rows `first` to `last`, elements from `start`, to the totals, where that is exact.

    It is exact if every partial sum is a multiple of some 2**k and below 2**(k + 53) in magnitude.
    Row 0 begins the sum; the other sums are left as they are.
    """
    if first == 0:
        for i in range(length):
            tile[i] = 0.0
    row = first
    while row + 2 <= last:
        one, one_weight = rows[row], weights[row]
        two, two_weight = rows[row + 1], weights[row + 1]
        for i in range(length):
            pair = one_weight * widen(one, start + i) + two_weight * widen(two, start + i)
            tile[i] = tile[i] + pair
        row += 2
    if row < last:
        one, one_weight = rows[row], weights[row]
        for i in range(length):
            tile[i] = tile[i] + one_weight * widen(one, start + i)
    return 0


def add_proved(rows, weights, first, last, start, length, tile):  # type: ignore[no-untyped-def]
    """Add rows `first` to `last`, elements from `start`, to all three sums; row 0 begins them."""
    row = first
    if first == 0 and last >= 2:
        # separate from the loop below, because most soups have two ingredients
        one, one_weight = rows[0], weights[0]
        two, two_weight = rows[1], weights[1]
        for i in range(length):
            sums = first_term(one, one_weight, start + i)
            sums = add_term(two, two_weight, start + i, sums)
            tile[i], tile[LOW + i], tile[SIZE + i] = sums
        row = 2
    elif first == 0:
        for i in range(length):
            tile[i], tile[LOW + i], tile[SIZE + i] = 0.0, 0.0, 0.0
    while row + 2 <= last:
        one, one_weight = rows[row], weights[row]
        two, two_weight = rows[row + 1], weights[row + 1]
        for i in range(length):
            sums = (tile[i], tile[LOW + i], tile[SIZE + i])
            sums = add_term(one, one_weight, start + i, sums)
            sums = add_term(two, two_weight, start + i, sums)
            tile[i], tile[LOW + i], tile[SIZE + i] = sums
        row += 2
    if row < last:
        one, one_weight = rows[row], weights[row]
        for i in range(length):
            sums = (tile[i], tile[LOW + i], tile[SIZE + i])
            sums = add_term(one, one_weight, start + i, sums)
            tile[i], tile[LOW + i], tile[SIZE + i] = sums
    return 0


@register_jitable
def product(row, weight, index):  # type: ignore[no-untyped-def]
    """One weighted element, rounded, and its exact rounding error."""
    value = widen(row, index)
    rounded = weight * value
    # 26 and 27 bits times at most 24: both exact, as all are multiples of 2**-1074
    upper = float_of(bits_of(value) & ~LOW_HALF)
    return rounded, weight * (value - upper) - (rounded - weight * upper)


def first_term(row, weight, index):  # type: ignore[no-untyped-def]
    """The sums of one weighted element; compiled code only."""
    raise NotImplementedError


def add_term(row, weight, index, sums):  # type: ignore[no-untyped-def]
    """The sums with one weighted element more; compiled code only."""
    raise NotImplementedError


@overload(first_term)
def _first_term(row, weight, index):  # type: ignore[no-untyped-def]
    if row.dtype == types.float64:

        def first_double(row, weight, index):  # type: ignore[no-untyped-def]
            rounded, rest = product(row, weight, index)
            # a total of zero is never -0.0
            return rounded + 0.0, rest, 0.0

        return first_double
    return lambda row, weight, index: (weight * widen(row, index) + 0.0, 0.0, 0.0)


@overload(add_term)
def _add_term(row, weight, index, sums):  # type: ignore[no-untyped-def]
    if row.dtype == types.float64:

        def add_double(row, weight, index, sums):  # type: ignore[no-untyped-def]
            rounded, left = product(row, weight, index)
            total, rest = two_sum(sums[0], rounded)
            # sums of float64 are seldom exact: a second exact level decides their many ties
            low, lost = two_sum(sums[1], rest)
            low, lost_too = two_sum(low, left)
            return total, low, sums[2] + (abs(lost) + abs(lost_too))

        return add_double

    def add_narrow(row, weight, index, sums):  # type: ignore[no-untyped-def]
        # the significand and the row's weight have at most 53 bits together, so the product is
        # exact
        total, rest = two_sum(sums[0], weight * widen(row, index))
        low = sums[1] + rest
        # a rounded sum has an error of at most 2**-53 of itself, and below 2**-1021 it is exact
        return total, low, sums[2] + abs(low) * 2.0**-53

    return add_narrow
