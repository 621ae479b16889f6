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
from .floats import EXPONENT, MAGNITUDE, bits_of, bytes_at, float_of, integers_at, store
from .rounding import encode
from .sums import DOUBT, FLOATS, INTEGERS, LOW, QUOTIENT, SIZE
from .tables import (
    DONE,
    ERRORS,
    LARGEST_MEAN,
    LARGEST_SUM,
    LIMIT,
    NORMAL,
    PRECISION,
    ROW_WEIGHTS,
    SIGN,
    SQUARES,
    TILE,
)
from .wide_rounding import settle_wide


def largest_signature() -> Signature:
    """The signature of `largest`."""
    whole = types.int64
    return types.int64(INTEGERS, whole, whole, whole, FLOATS, FLOATS, whole, INTEGERS)


def signature() -> Signature:
    """The signature of `quantise`."""
    whole = types.int64
    passes = INTEGERS, INTEGERS, whole, whole, whole, BYTES
    return types.int64(*passes, FLOATS, FLOATS, whole, INTEGERS)


# the largest divisor whose products with the boundaries of codes are float64s
LONGEST = 2.0**48

SIGNATURES = {"largest": largest_signature, "quantise": signature}


def largest(mean, origin, start, stop, tile, found, values, scratch):  # type: ignore[no-untyped-def]
    """Raise the largest magnitudes in `found` to those of elements `start` to `stop`.

    DONE, or the status of a failure, as `combine` leaves it. The mean is of F64, and `values` is
    the address of memory for a tile of it.
    """
    for i in range(TILE):
        tile[LOW + i], tile[SIZE + i] = 0.0, 0.0
    place = start
    while place < stop:
        weights, left = weights_of(mean, origin + place)
        length = min(TILE, stop - place, left)
        add_rows(mean, weights, place, length, tile)
        status = note_largest(mean, weights, place, length, tile, found, values, scratch)
        if status != DONE:
            return status
        place += length
    return DONE


def quantise(mean, codes, origin, start, stop, out, tile, found, values, scratch):  # type: ignore[no-untyped-def]
    """Put the codes of elements `start` to `stop` at `out`; DONE, or the status of a failure.

    `codes` is the mean with the format and divisor of codes. Adds to the squares in `found`, and
    raises the largest magnitudes there.
    """
    for i in range(TILE):
        tile[LOW + i], tile[SIZE + i] = 0.0, 0.0
    place = start
    while place < stop:
        weights, left = weights_of(mean, origin + place)
        length = min(TILE, stop - place, left)
        add_rows(mean, weights, place, length, tile)
        status = note_largest(mean, weights, place, length, tile, found, values, scratch)
        if status != DONE:
            return status
        if encode_tile(codes, length, out, place - start, tile, found):
            scratch[ROW_WEIGHTS] = weights
            status = resolve_doubts(codes, place, length, out, place - start, tile, scratch)
            if status != DONE:
                return status
        place += length
    return DONE


@register_jitable
def note_largest(mean, weights, place, length, tile, found, values, scratch):  # type: ignore[no-untyped-def]
    """Update the largest magnitudes in `found` from the sums of one tile; DONE or a failure.

    Where all sums are exact, the largest mean is that of the largest sum, so no other is rounded.
    """
    inexact, most = 0, 0
    for i in range(length):
        inexact |= bits_of(tile[LOW + i]) & MAGNITUDE | bits_of(tile[SIZE + i])
        most = max(most, bits_of(tile[i]) & MAGNITUDE)
    if inexact == 0 and most < EXPONENT:
        found[LARGEST_SUM] = max(found[LARGEST_SUM], float_of(most))
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
    found[LARGEST_MEAN] = max(found[LARGEST_MEAN], float_of(most))
    return DONE


@register_jitable
def encode_tile(codes, length, out, offset, tile, found):  # type: ignore[no-untyped-def]
    """Store the codes of one tile, and add up their errors; the number left in doubt.

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
        error = distance(q, layout)
        found[ERRORS + i] += error * error
        found[SQUARES + i] += q * q
        wrong = (bits_of(q) & MAGNITUDE) > limit
        wrong |= (tile[LOW + i] != 0.0) | (tile[SIZE + i] != 0.0) | (boundary & is_long)
        tile[DOUBT + i] = 1.0 if wrong else 0.0
        doubtful |= wrong
    if doubtful == 0:
        return 0
    return settle_wide(out, offset, length, tile, (divisor, rest), layout, limit)


@register_jitable
def distance(value, layout):  # type: ignore[no-untyped-def]
    """How far rounding moves a value; see `rounding.encode`."""
    precision, normal, _ = layout
    magnitude = bits_of(value) & MAGNITUDE
    far = float_of(max(magnitude & EXPONENT, normal) + ((53 - precision) << 52))
    size = float_of(magnitude)
    return ((size + far) - far) - size
