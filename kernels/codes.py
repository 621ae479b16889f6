"""Means as codes of eight bits over a scale, and the largest mean, from which the scale comes.

Rule 1: a code is the value nearest to sum / (weight * factor * 2**e), where factor * 2**e is the
scale: the divisor is the whole number weight * factor, and the format of the codes is that of
eight bits with its values times 2**e.
Rule 2: both passes sum in the same way, so that what they find of the same elements is equal.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import register_jitable

from . import tables
from .combine import BYTES, add_rows, finish, resolve_doubts, weights_of
from .floats import (
    EXPONENT,
    MAGNITUDE,
    bits_of,
    bytes_at,
    float_of,
    floats_at,
    integers_at,
    invoke,
    store,
)
from .rounding import encode
from .sums import DOUBT, FLOATS, INTEGERS, LOW, QUOTIENT, SIZE
from .tables import (
    DONE,
    ERRORS,
    LARGEST_MEAN,
    LARGEST_SUM,
    LIMIT,
    NORMAL,
    PIECE,
    PRECISION,
    ROW_WEIGHTS,
    SIGN,
    SQUARES,
)
from .wide_rounding import settle_wide


def largest_signature() -> Signature:
    """The signature of `largest`."""
    whole = types.int64
    return types.int64(INTEGERS, INTEGERS, whole, whole, whole, FLOATS, whole, INTEGERS)


def signature() -> Signature:
    """The signature of `quantise`."""
    whole = types.int64
    passes = INTEGERS, INTEGERS, whole, whole, whole, BYTES
    return types.int64(*passes, FLOATS, whole, INTEGERS)


# the largest divisor whose products with the boundaries of codes are float64s
LONGEST = 2.0**48
# a product with the rounded inverse of a divisor is off its quotient by less than 2**-51 of itself,
# which is at most 2**5 times half a unit of a code
OFF = 2.0**-46
# a bound on sums is rounded once for each of up to 2**20 rows, and where it underflows
SLACK, LEAST = 1.0 + 2.0**-30, 2.0**-1000

SIGNATURES = {"largest": largest_signature, "quantise": signature}


def largest(mean, peaks, origin, start, stop, tile, values, scratch):  # type: ignore[no-untyped-def]
    """Raise the largest magnitudes in the tile's memory to those of elements `start` to `stop`.

    DONE, or the status of a failure, as `combine` leaves it. The mean is of F64, `peaks` has the
    address of the bound of each group of rows, and `values` is that of memory for a tile of means.
    """
    clear(tile)
    place = start
    while place < stop:
        weights, left = weights_of(mean, origin + place)
        length = min(PIECE, stop - place, left)
        if bound(mean, peaks, weights, place, length, values) >= tile[LARGEST_SUM]:
            add_rows(mean, weights, place, length, tile)
            status = note_largest(mean, weights, place, length, tile, values, scratch)
            if status != DONE:
                return status
        place += length
    return DONE


def quantise(mean, codes, origin, start, stop, out, tile, values, scratch):  # type: ignore[no-untyped-def]
    """Put the codes of elements `start` to `stop` at `out`; DONE, or the status of a failure.

    `codes` is the mean with the format and divisor of codes. Adds to the squares in the tile's
    memory, and raises the largest magnitudes there.
    """
    clear(tile)
    place = start
    while place < stop:
        weights, left = weights_of(mean, origin + place)
        length = min(PIECE, stop - place, left)
        add_rows(mean, weights, place, length, tile)
        if encode_quickly(codes, length, out, place - start, tile):
            status = note_largest(mean, weights, place, length, tile, values, scratch)
            if status != DONE:
                return status
            if encode_tile(codes, length, out, place - start, tile):
                scratch[ROW_WEIGHTS] = weights
                status = resolve_doubts(codes, place, length, out, place - start, tile, scratch)
                if status != DONE:
                    return status
        place += length
    return DONE


@register_jitable
def clear(tile):  # type: ignore[no-untyped-def]
    """Clear the sums that `add_bounded` leaves as they are."""
    for i in range(PIECE):
        tile[LOW + i], tile[SIZE + i] = 0.0, 0.0


@register_jitable
def bound(mean, peaks, weights_at, place, length, cell):  # type: ignore[no-untyped-def]
    """At least the largest magnitude of these sums; infinite if a term is not finite."""
    groups = integers_at(mean[tables.GROUPS])
    rows, weights = integers_at(mean[tables.ROWS]), floats_at(weights_at)
    total = LEAST
    for group in range(mean[tables.GROUP_COUNT]):
        first, last = groups[3 * group + 1], groups[3 * group + 2]
        arguments = (rows, weights, first, last, place, length, cell)
        total += float_of(invoke(peaks[group], arguments))
    # not below infinity is what NaN is, too
    return total * SLACK if total < float_of(EXPONENT) else float_of(EXPONENT)


@register_jitable
def encode_quickly(codes, length, out, offset, tile):  # type: ignore[no-untyped-def]
    """Store the codes of one piece, and add up their errors; whether any is left in doubt.

    The quotient q is a product with the inverse of the divisor. It has the code of the exact one if
    it is farther from a boundary than it is off; a boundary is half a unit from a code's value.
    """
    table = integers_at(codes[tables.FORMAT])
    divisor, rest = float_of(codes[tables.DIVISOR]), float_of(codes[tables.REST])
    inverse = 1.0 / divisor
    # that of a power of two is exact, and so is a boundary
    off = OFF if bits_of(divisor) & ~EXPONENT else 0.0
    layout, limit = (table[PRECISION], table[NORMAL], table[SIGN]), table[LIMIT]
    inexact, doubtful, most = bits_of(rest), 0, 0
    for i in range(length):
        total = tile[i]
        q = total * inverse
        code, error, half = code_of(q, layout)
        store(out, offset + i, code)
        tile[ERRORS + i] += error * error
        tile[SQUARES + i] += q * q
        wrong = (bits_of(q) & MAGNITUDE) > limit
        wrong |= half - abs(error) < off * half
        doubtful |= wrong
        inexact |= bits_of(tile[LOW + i]) | bits_of(tile[SIZE + i])
        most = max(most, bits_of(total) & MAGNITUDE)
    if inexact & MAGNITUDE == 0 and most < EXPONENT:
        tile[LARGEST_SUM] = max(tile[LARGEST_SUM], float_of(most))
        return doubtful
    return 1


@register_jitable
def code_of(value, layout):  # type: ignore[no-untyped-def]
    """The code of a value, the error of rounding it, and half the distance of codes there."""
    precision, normal, sign = layout
    bits = bits_of(value)
    magnitude = bits & MAGNITUDE
    exponent = max(magnitude & EXPONENT, normal)
    far_bits = exponent + ((53 - precision) << 52)
    size, far = float_of(magnitude), float_of(far_bits)
    near = size + far
    code = bits_of(near) - far_bits + ((exponent - normal) >> (53 - precision))
    error = (near - far) - size
    half = float_of(exponent - (precision << 52))
    return code | ((bits >> 63) & sign), error, half


@register_jitable
def note_largest(mean, weights, place, length, tile, values, scratch):  # type: ignore[no-untyped-def]
    """Update the largest magnitudes from the sums of one piece; DONE or a failure.

    Where all sums are exact, the largest mean is that of the largest sum, so no other is rounded.
    """
    inexact, most = 0, 0
    for i in range(length):
        inexact |= bits_of(tile[LOW + i]) & MAGNITUDE | bits_of(tile[SIZE + i])
        most = max(most, bits_of(tile[i]) & MAGNITUDE)
    if inexact == 0 and most < EXPONENT:
        tile[LARGEST_SUM] = max(tile[LARGEST_SUM], float_of(most))
        return DONE
    if finish(mean, bytes_at(values), 0, length, tile):
        scratch[ROW_WEIGHTS] = weights
        status = resolve_doubts(mean, place, length, bytes_at(values), 0, tile, scratch)
        if status != DONE:
            return status
        # resolving an element reads into the first sum
        add_rows(mean, weights, place, length, tile)
    means, most = integers_at(values), 0
    for i in range(length):
        most = max(most, means[i] & MAGNITUDE)
    tile[LARGEST_MEAN] = max(tile[LARGEST_MEAN], float_of(most))
    return DONE


@register_jitable
def encode_tile(codes, length, out, offset, tile):  # type: ignore[no-untyped-def]
    """Store the codes of one piece; the number left in doubt.

    Where the total is the exact sum, rounding its quotient q is right on a boundary b as well if
    the divisor has 48 bits at most, as in `rounding.finish`: b has five bits, so b * divisor fits
    a float64.
    """
    divisor, rest = float_of(codes[tables.DIVISOR]), float_of(codes[tables.REST])
    table = integers_at(codes[tables.FORMAT])
    layout = (table[PRECISION], table[NORMAL], table[SIGN])
    limit = table[LIMIT]
    is_long = divisor > LONGEST
    for i in range(length):
        tile[QUOTIENT + i] = tile[i] / divisor
    doubtful = 0
    for i in range(length):
        q = tile[QUOTIENT + i]
        code, boundary = encode(out, q, layout)
        store(out, offset + i, code)
        wrong = (bits_of(q) & MAGNITUDE) > limit
        wrong |= (tile[LOW + i] != 0.0) | (tile[SIZE + i] != 0.0) | (boundary & is_long)
        tile[DOUBT + i] = 1.0 if wrong else 0.0
        doubtful |= wrong
    if doubtful == 0:
        return 0
    return settle_wide(out, offset, length, tile, (divisor, rest), layout, limit)
