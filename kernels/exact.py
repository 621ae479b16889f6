"""One element in integer arithmetic: always exact, for elements that the fast path cannot prove.

Rule 1: the sum is an integer in limbs of 32 bits; only those that the terms touch cost time.
Rule 2: every term is read by the sums' own widening, so that each format is decoded in one place.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import register_jitable

from . import tables
from .floats import EXPONENT, MAGNITUDE, bits_of, floats_at, integers_at, invoke
from .sums import FLOATS, INTEGERS
from .tables import (
    BOTTOM,
    DONE,
    LIMB_COUNT,
    LIMBS,
    NOT_FINITE,
    OUT_OF_RANGE,
    RESOLVE_SCRATCH,
    RESULT,
    ROW,
    ROW_WEIGHTS,
    SPARE,
    TOP,
)

LIMB_BITS = 32
LIMB = 2**LIMB_BITS - 1
# exponent of the lowest bit of the lowest limb
LOWEST = -1074 - SPARE * LIMB_BITS

HIDDEN = 2**52
# bits of a weight that are multiplied at a time, so that with those of a limb they fit an int64
FACTOR_BITS = 31
FACTOR = 2**FACTOR_BITS - 1


def signature() -> Signature:
    """The signature of `resolve`."""
    return types.int64(INTEGERS, types.int64, FLOATS, INTEGERS)


SIGNATURES = {"resolve": signature}


def resolve(mean, element, tile, scratch):  # type: ignore[no-untyped-def]
    """Compute one element into `scratch[RESULT]`: its bits, or the first source not finite."""
    table = integers_at(mean[tables.FORMAT])
    scratch[BOTTOM], scratch[TOP] = LIMB_COUNT, 0
    for limb in range(LIMBS, RESOLVE_SCRATCH):
        scratch[limb] = 0
    nan, positive, negative, offender = add_terms(mean, element, tile, scratch)
    if offender < 0:
        return round_mean(scratch, mean[tables.WEIGHT], mean[tables.FACTOR], table)
    if not mean[tables.ALLOWED]:
        scratch[RESULT] = offender
        return NOT_FINITE
    if nan or (positive and negative):
        scratch[RESULT] = table[tables.QUIET_NAN]
        return DONE
    scratch[RESULT] = table[tables.INFINITY] | (table[tables.SIGN] if negative else 0)
    # zero for a format without infinity
    return DONE if table[tables.INFINITY] else OUT_OF_RANGE


@register_jitable
def add_terms(mean, element, tile, scratch):  # type: ignore[no-untyped-def]
    """Add the finite terms; which kinds of others there are, and their first source or -1."""
    groups, rows = integers_at(mean[tables.GROUPS]), integers_at(mean[tables.ROWS])
    weights, sources = floats_at(scratch[ROW_WEIGHTS]), integers_at(mean[tables.SOURCES])
    nan, positive, negative, offender = False, False, False, -1
    for group in range(mean[tables.GROUP_COUNT]):
        add, first, last = groups[3 * group], groups[3 * group + 1], groups[3 * group + 2]
        for row in range(first, last):
            bits = bits_of(read(mean, add, rows[row], element, tile, scratch))
            factor = weights[row]
            if bits & EXPONENT != EXPONENT:
                add_product(bits, bits_of(factor), scratch)
                continue
            nan |= bits & MAGNITUDE != EXPONENT or factor == 0.0
            positive |= (bits < 0) == (factor < 0)
            negative |= (bits < 0) != (factor < 0)
            if offender < 0 or sources[row] < offender:
                offender = sources[row]
    return nan, positive, negative, offender


@register_jitable
def read(mean, add, row, element, tile, scratch):  # type: ignore[no-untyped-def]
    """The float64 of one element of one row, by the compiled sum of its type."""
    scratch[ROW] = row
    invoke(add, (scratch, floats_at(mean[tables.UNIT]), 0, 1, element, 1, tile))
    return tile[0]


@register_jitable
def significand_of(bits):  # type: ignore[no-untyped-def]
    """The whole number that a finite float64 of these bits is, in units of 2**(place - 1074)."""
    field = (bits & EXPONENT) >> 52
    return bits & (HIDDEN - 1) | (HIDDEN if field else 0), max(field, 1) - 1


@register_jitable
def add_product(bits, weight, scratch):  # type: ignore[no-untyped-def]
    """Add the product of two finite float64s, given as bits, to the limbs, whose carries wait.

    The weight is a whole number, or its product with any element is a multiple of 2**-1074.
    """
    significand, place = significand_of(bits)
    factor, weight_place = significand_of(weight)
    if significand == 0 or factor == 0:
        return
    # without trailing zeros, so that no bit lies below the lowest limb
    zeros = (bits_of(float(factor & -factor)) >> 52) - 1023
    factor >>= zeros
    place += weight_place + zeros - 1074
    sign = -1 if (bits < 0) != (weight < 0) else 1
    add_part(significand, factor & FACTOR, place, sign, scratch)
    if factor > FACTOR:
        add_part(significand, factor >> FACTOR_BITS, place + FACTOR_BITS, sign, scratch)


@register_jitable
def add_part(significand, factor, place, sign, scratch):  # type: ignore[no-untyped-def]
    """Add the signed product of 53 bits and FACTOR_BITS to the limbs, from bit `place` on."""
    limb, shift = SPARE + (place >> 5), place & 31
    lowest = (significand & LIMB) * factor
    middle = (lowest >> LIMB_BITS) + (significand >> LIMB_BITS) * factor
    first = (lowest & LIMB) << shift
    second = (middle & LIMB) << shift
    third = (middle >> LIMB_BITS) << shift
    at = LIMBS + limb
    scratch[at] += sign * (first & LIMB)
    scratch[at + 1] += sign * ((first >> LIMB_BITS) + (second & LIMB))
    scratch[at + 2] += sign * ((second >> LIMB_BITS) + (third & LIMB))
    scratch[at + 3] += sign * (third >> LIMB_BITS)
    scratch[BOTTOM] = min(scratch[BOTTOM], limb)
    # one more limb for the carries of many terms
    scratch[TOP] = max(scratch[TOP], limb + 4)


@register_jitable
def round_mean(scratch, weight, factor, table):  # type: ignore[no-untyped-def]
    """Round the limbs' sum over weight * factor into `scratch[RESULT]`; DONE or OUT_OF_RANGE."""
    scratch[RESULT] = 0
    if scratch[TOP] == 0:
        return DONE
    negative = settle_signs(scratch)
    remainder = divide_limbs(scratch, weight)
    if factor != 1:
        remainder |= divide_limbs(scratch, factor)
    highest = scratch[TOP]
    while scratch[LIMBS + highest] == 0:
        highest -= 1
        if highest < 0:
            return DONE
    bit = LIMB_BITS * highest - 1
    while scratch[LIMBS + highest] >> (bit + 1 - LIMB_BITS * highest):
        bit += 1
    precision, quantum = table[tables.PRECISION], table[tables.QUANTUM]
    unit = max(bit + LOWEST - (precision - 1), quantum)
    kept = round_limbs(scratch, unit - LOWEST, remainder)
    steps = unit - quantum
    # compared before it is shifted, because the shift could overflow
    if steps > table[tables.LARGEST] >> (precision - 1):
        return OUT_OF_RANGE
    encoded = kept + (steps << (precision - 1))
    scratch[RESULT] = encoded | (table[tables.SIGN] if negative else 0)
    return DONE if encoded <= table[tables.LARGEST] else OUT_OF_RANGE


@register_jitable
def settle_signs(scratch):  # type: ignore[no-untyped-def]
    """Carry, so that each limb has 32 bits of the sum's magnitude; whether it is negative."""
    carry = 0
    for limb in range(LIMBS + scratch[BOTTOM], LIMBS + scratch[TOP] + 1):
        value = scratch[limb] + carry
        scratch[limb] = value & LIMB
        carry = value >> LIMB_BITS
    if carry == 0:
        return False
    carry = 1
    for limb in range(LIMBS + scratch[BOTTOM], LIMBS + scratch[TOP] + 1):
        value = (scratch[limb] ^ LIMB) + carry
        scratch[limb] = value & LIMB
        carry = value >> LIMB_BITS
    return True


@register_jitable
def divide_limbs(scratch, weight):  # type: ignore[no-untyped-def]
    """Divide the limbs by `weight`, down to the spare limbs below them; the last remainder."""
    # as many bits at a time as fit in an int64 above a remainder below the weight
    room = LIMB_BITS
    while weight - 1 > MAGNITUDE >> room:
        room -= 1
    remainder = 0
    limb = LIMBS + scratch[TOP]
    while limb >= LIMBS + scratch[BOTTOM] - SPARE:
        value, left, quotient = scratch[limb], LIMB_BITS, 0
        while left:
            taken = min(room, left)
            left -= taken
            remainder = remainder << taken | (value >> left & ((1 << taken) - 1))
            part = remainder // weight
            remainder -= part * weight
            quotient = quotient << taken | part
        scratch[limb] = quotient
        limb -= 1
    return remainder


@register_jitable
def round_limbs(scratch, cut, remainder):  # type: ignore[no-untyped-def]
    """The limbs from bit `cut` on, at most 53 bits, rounded to nearest even by the bits below."""
    at, shift = LIMBS + (cut >> 5), cut & 31
    kept = scratch[at] >> shift | scratch[at + 1] << (LIMB_BITS - shift)
    if shift:
        kept |= scratch[at + 2] << (2 * LIMB_BITS - shift)
    below = cut - 1
    at, shift = LIMBS + (below >> 5), below & 31
    half = scratch[at] >> shift & 1
    rest = remainder | scratch[at] & ((1 << shift) - 1)
    for limb in range(LIMBS, at):
        rest |= scratch[limb]
    if half and (rest or kept & 1):
        return kept + 1
    return kept
