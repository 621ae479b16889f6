"""From the sums of one tile to the bits of its means: division, and one rounding.

Rule 1: `doubt` is zero only where the stored bits are proved right, for divisors up to 2**24.
Rule 2: rounding is monotone, so to round the float64 q nearest to a quotient t is to round t, but
where q lies on a boundary of the output format (half-way between two of its values) and t does not.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import overload, register_jitable

from .floats import EXPONENT, LOW_HALF, MAGNITUDE, bits_of, float_of, store, two_sum
from .sums import DOUBT, FLOATS, INTEGERS, LOW, QUOTIENT, SIZE
from .tables import LIMIT, NORMAL, PRECISION, SIGN

SMALLEST_SAFE = 2.0**-900
LARGEST_SAFE = 2.0**1000


OUT_TYPES = {"8": types.int8, "16": types.int16, "32": types.int32, "64": types.int64}


def signature(bits: str) -> Signature:
    """The signature of `finish` for a row of integers of as many bits as the output's."""
    out = types.CPointer(OUT_TYPES[bits])
    whole = types.int64
    real = types.float64
    return types.int64(out, whole, whole, FLOATS, real, real, INTEGERS)


SIGNATURES = {"finish": signature}


def finish(out, offset, length, tile, weight, rest, table):  # type: ignore[no-untyped-def]
    """Store the rounded quotients from `offset` of `out` on; the number left in doubt.

    The divisor is weight + rest, and the rest of one up to 2**24 is zero.

    Where the total is the exact sum, rounding q is right on a boundary b too. There b > 1 in units
    of its binade, and b * weight fits a float64 (25 bits times 24). If the total is another float64
    than that, it is off by 2**-53 of it at least, so t is off b by more than 2**-53 units, half
    the distance of float64s: q would not be b.
    """
    divide(length, tile, weight)
    # read before the loop, because the compiler must assume that a store in the loop changes the
    # table
    layout = (table[PRECISION], table[NORMAL], table[SIGN])
    limit = table[LIMIT]
    doubtful = 0
    for i in range(length):
        q = tile[QUOTIENT + i]
        encoded, _ = encode(out, q, layout)
        wrong = (bits_of(q) & MAGNITUDE) > limit
        wrong |= (tile[LOW + i] != 0.0) | (tile[SIZE + i] != 0.0)
        store(out, offset + i, encoded)
        tile[DOUBT + i] = 1.0 if wrong else 0.0
        doubtful |= wrong
    if doubtful == 0:
        return 0
    return settle(out, offset, length, tile, weight, layout, limit)


@register_jitable
def divide(length, tile, weight):  # type: ignore[no-untyped-def]
    """Fill the tile's quotients with its totals over the weight, rounded once."""
    if bits_of(weight) & ~EXPONENT == 0:
        # the inverse of a power of two is exact, so the product rounds like the quotient
        inverse = 1.0 / weight
        for i in range(length):
            tile[QUOTIENT + i] = tile[i] * inverse
    else:
        for i in range(length):
            tile[QUOTIENT + i] = tile[i] / weight


def encode(out, value, layout):  # type: ignore[no-untyped-def]
    """The bits of `value` rounded to `out`, and whether it lies half-way; compiled code only."""
    raise NotImplementedError


@overload(encode)
def _encode(out, value, layout):  # type: ignore[no-untyped-def]
    if out.dtype == types.int64:
        return lambda out, value, layout: (bits_of(value), False)

    def encode_narrow(out, value, layout):  # type: ignore[no-untyped-def]
        precision, normal, sign = layout
        bits = bits_of(value)
        magnitude = bits & MAGNITUDE
        exponent = max(magnitude & EXPONENT, normal)
        # adding 2**(exponent + 53 - precision) leaves `precision` bits, fewer for subnormals
        far_bits = exponent + ((53 - precision) << 52)
        far = float_of(far_bits)
        near = float_of(magnitude) + far
        encoded = bits_of(near) - far_bits + ((exponent - normal) >> (53 - precision))
        rounding = abs(float_of(magnitude) - (near - far))
        boundary = rounding == float_of(exponent - (precision << 52))
        return encoded | ((bits >> 63) & sign), boundary

    return encode_narrow


@register_jitable
def settle(out, offset, length, tile, weight, layout, limit):  # type: ignore[no-untyped-def]
    """Ziv's test (ACM TOMS 17, 1991) with all that is known; the number that stays in doubt.

    The exact sum is high + rest + r with |r| <= 2 * size, and high = q * weight + remainder, so
    the quotient is t = q + (remainder + rest + r) / weight. `delta` is (remainder + rest) / weight
    with two roundings of 2**-53 each, and adding the margin to it rounds a third time: 2**-50 of
    it covers them, 4 * size covers r (the weight is at least 1) and its own rounding. If both ends
    round to the same float64, so does t.
    """
    doubtful = 0
    for i in range(length):
        high, rest = two_sum(tile[i], tile[LOW + i])
        size = tile[SIZE + i]
        q = high / weight
        upper = float_of(bits_of(q) & ~LOW_HALF)
        # 26 and 27 bits times at most 24 are exact, and so are the differences: the first for its
        # closeness (Sterbenz), the second because a remainder of a division fits in a float64
        remainder = (high - upper * weight) - (q - upper) * weight
        numerator, lost = two_sum(remainder, rest)
        delta = numerator / weight
        short = bits_of(delta) & LOW_HALF == 0 and delta * weight == numerator
        exact = size == 0.0 and lost == 0.0 and short
        margin = 0.0 if exact else abs(delta) * 2.0**-50 + 4.0 * size
        below, above = q + (delta - margin), q + (delta + margin)
        encoded, boundary = encode(out, below, layout)
        range_known = SMALLEST_SAFE < abs(high) < LARGEST_SAFE or (high == 0.0 and size == 0.0)
        inside = bits_of(below) & MAGNITUDE <= limit and not boundary
        proved = below == above and range_known and inside
        if tile[DOUBT + i] != 0.0:
            if proved:
                store(out, offset + i, encoded)
                tile[DOUBT + i] = 0.0
            else:
                doubtful += 1
    return doubtful
