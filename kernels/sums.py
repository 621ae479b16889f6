"""Weighted sums of one tile, row by row, with everything that float64 leaves out of them.

Rule 1: the exact sum is total + low + r, where |r| is at most the exact sum behind `size`; `size`
itself is a float64 sum of non-negative numbers, so twice it bounds |r| for any number of terms.
Rule 2: what is not finite, or overflowed on the way, makes total, low or size not finite.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import overload, register_jitable

from .floats import LOW_HALF, bits_of, float_of, two_sum, widen

FLOATS = types.CPointer(types.float64)
INTEGERS = types.CPointer(types.int64)

# elements of a tile, and where in its float64 scratch each part begins: one pointer with constant
# distances lets the compiler see that the parts do not overlap
TILE = 1024
TOTAL, LOW, SIZE, QUOTIENT, DOUBT = 0, TILE, 2 * TILE, 3 * TILE, 3 * TILE
SCRATCH = 4 * TILE


def signature(row_type: types.Type) -> Signature:
    """The signature of both sums for rows of `row_type`."""
    rows = types.CPointer(types.CPointer(row_type))
    whole = types.int64
    return types.int64(rows, FLOATS, whole, whole, whole, whole, FLOATS)


def add_bounded(rows, weights, first, count, start, length, tile):  # type: ignore[no-untyped-def]
    """Add `count` rows from row `first`, elements from `start`, to the total, where that is exact.

    It is exact if every partial sum is a multiple of some 2**k and below 2**(k + 53) in magnitude.
    """
    row = first
    while row + 2 <= first + count:
        one, one_weight = rows[row], weights[row]
        two, two_weight = rows[row + 1], weights[row + 1]
        for i in range(length):
            pair = one_weight * widen(one, start + i) + two_weight * widen(two, start + i)
            tile[i] = tile[i] + pair
        row += 2
    if row < first + count:
        one, one_weight = rows[row], weights[row]
        for i in range(length):
            tile[i] = tile[i] + one_weight * widen(one, start + i)
    return 0


def add_proved(rows, weights, first, count, start, length, tile):  # type: ignore[no-untyped-def]
    """Add `count` rows from row `first`, elements from `start`, to all three sums."""
    row = first
    while row + 2 <= first + count:
        one, one_weight = rows[row], weights[row]
        two, two_weight = rows[row + 1], weights[row + 1]
        for i in range(length):
            sums = (tile[i], tile[LOW + i], tile[SIZE + i])
            sums = add_term(one, one_weight, start + i, sums)
            sums = add_term(two, two_weight, start + i, sums)
            tile[i], tile[LOW + i], tile[SIZE + i] = sums
        row += 2
    if row < first + count:
        one, one_weight = rows[row], weights[row]
        for i in range(length):
            sums = (tile[i], tile[LOW + i], tile[SIZE + i])
            sums = add_term(one, one_weight, start + i, sums)
            tile[i], tile[LOW + i], tile[SIZE + i] = sums
    return 0


@register_jitable
def add_value(value: float, sums: tuple[float, float, float]) -> tuple[float, float, float]:
    """The sums with one float64 more: two exact levels, and a bound on the third."""
    total, rest = two_sum(sums[0], value)
    low, lost = two_sum(sums[1], rest)
    return total, low, sums[2] + abs(lost)


def add_term(row, weight, index, sums):  # type: ignore[no-untyped-def]
    """The sums with one weighted element more; compiled code only."""
    raise NotImplementedError


@overload(add_term)
def _add_term(row, weight, index, sums):  # type: ignore[no-untyped-def]
    if row.dtype != types.float64:
        # at most 24 bits of significand times at most 24 bits of weight: exact
        return lambda row, weight, index, sums: add_value(weight * widen(row, index), sums)

    def add_double(row, weight, index, sums):  # type: ignore[no-untyped-def]
        value = widen(row, index)
        product = weight * value
        # 26 and 27 bits times at most 24: both exact, as the product is a multiple of 2**-1074
        upper = float_of(bits_of(value) & ~LOW_HALF)
        high = weight * upper
        rest = weight * (value - upper) - (product - high)
        total, low, size = add_value(product, sums)
        low, lost = two_sum(low, rest)
        return total, low, size + abs(lost)

    return add_double
