"""Division and rounding of the sums of one tile for divisors that may exceed 2**24.

Rule 1: `doubt` is zero only where the stored bits are proved right, for divisors up to 2**62.
Rule 2: the divisor is weight + rest, where weight is the float64 nearest to it.
"""

from __future__ import annotations

from numba.extending import register_jitable

from .floats import MAGNITUDE, bits_of, store, two_sum
from .rounding import LARGEST_SAFE, SMALLEST_SAFE, divide, encode, signature
from .sums import DOUBT, LOW, QUOTIENT, SIZE
from .tables import LIMIT, NORMAL, PRECISION, SIGN

# Veltkamp's constant, which splits a factor into two halves of 26 bits
SPLITTER = 2.0**27 + 1.0


SIGNATURES = {"finish_wide": signature}


def finish_wide(out, offset, length, tile, weight, rest, table):  # type: ignore[no-untyped-def]
    """Store the rounded quotients from `offset` of `out` on; the number left in doubt.

    Where the total is the exact sum and the weight the exact divisor, q is the quotient rounded
    once, so rounding it again is right unless it lies on a boundary.
    """
    divide(length, tile, weight)
    # read before the loop, because the compiler must assume that a store in the loop changes the
    # table
    layout = (table[PRECISION], table[NORMAL], table[SIGN])
    limit = table[LIMIT]
    inexact = rest != 0.0
    doubtful = 0
    for i in range(length):
        q = tile[QUOTIENT + i]
        encoded, boundary = encode(out, q, layout)
        wrong = (bits_of(q) & MAGNITUDE) > limit
        wrong |= (tile[LOW + i] != 0.0) | (tile[SIZE + i] != 0.0) | boundary | inexact
        store(out, offset + i, encoded)
        tile[DOUBT + i] = 1.0 if wrong else 0.0
        doubtful |= wrong
    if doubtful == 0:
        return 0
    return settle_wide(out, offset, length, tile, (weight, rest), layout, limit)


@register_jitable
def two_product(first, second):  # type: ignore[no-untyped-def]
    """The rounded product, and exactly what rounding left out (Dekker, 1971)."""
    rounded = first * second
    far = SPLITTER * first
    upper = far - (far - first)
    lower = first - upper
    far = SPLITTER * second
    other_upper = far - (far - second)
    other_lower = second - other_upper
    left = upper * other_upper - rounded
    return rounded, ((left + upper * other_lower) + lower * other_upper) + lower * other_lower


@register_jitable
def settle_wide(out, offset, length, tile, divisor, layout, limit):  # type: ignore[no-untyped-def]
    """Ziv's test (ACM TOMS 17, 1991) with all that is known; the number that stays in doubt.

    The exact sum is high + low + r with |r| <= 2 * size, and high - q * weight is a float64, the
    remainder of a division. So the quotient is t = q + (remainder + low - q * rest + r) / divisor.
    `delta` is that without r, after six roundings of 2**-53 of the sum of its terms' magnitudes at
    most: 2**-48 of it covers them and those of the margin, 4 * size covers r. If both ends
    round to the same float64, so does t. If nothing is left out and delta is zero, q is t.
    """
    weight, rest = divisor
    doubtful = 0
    for i in range(length):
        high, low = two_sum(tile[i], tile[LOW + i])
        size = tile[SIZE + i]
        q = high / weight
        rounded, left = two_product(q, weight)
        remainder = (high - rounded) - left
        beyond = q * rest
        numerator = (remainder + low) - beyond
        magnitude = (abs(remainder) + abs(low)) + abs(beyond)
        delta, margin = numerator / weight, (magnitude * 2.0**-48 + 4.0 * size) / weight
        exact = magnitude == 0.0 and size == 0.0
        below, above = q + (delta - margin), q + (delta + margin)
        encoded, boundary = encode(out, below, layout)
        range_known = SMALLEST_SAFE < abs(high) < LARGEST_SAFE or (high == 0.0 and exact)
        inside = bits_of(below) & MAGNITUDE <= limit and (exact or not boundary)
        proved = below == above and range_known and inside
        if tile[DOUBT + i] != 0.0:
            if proved:
                store(out, offset + i, encoded)
                tile[DOUBT + i] = 0.0
            else:
                doubtful += 1
    return doubtful
