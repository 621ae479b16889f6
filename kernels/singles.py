"""Means of 16-bit floats by arithmetic of float32 alone, twice as fast as that of float64.

Rule 1: a tile counts only if every element of it is proved: each addition exact, and the quotient
rounded as the exact one would be. Else it is made anew in float64.
Rule 2: weights and divisor are at most SINGLE_WEIGHT, so that products are exact; that of a float32
is a power of two, or zero.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing import Signature
from numba.extending import intrinsic, overload, register_jitable

from .floats import BFLOAT, HALF, ROW_TYPES, load, single_of, store, two_sum
from .sums import FLOATS

SINGLES = types.CPointer(types.float32)
WORD = ir.IntType(32)

# outside these bounds, a quotient might be too small to be rounded correctly, or out of range; for
# fp16, none is too small
LARGEST_HALF = 0x4700_0000  # 2**15
LARGEST_BFLOAT, SMALLEST_BFLOAT = 0x7E80_0000, 0x0D80_0000  # 2**126, 2**-100
SINGLE_MAGNITUDE = 0x7FFF_FFFF


def signature(rows_of: str) -> Signature:
    """The signature of both means for 16-bit rows, and a result, of the type of that name."""
    row, whole = types.CPointer(ROW_TYPES[rows_of]), types.int64
    rows = types.CPointer(row)
    return types.int64(rows, FLOATS, whole, whole, whole, row, whole, FLOATS, whole)


SIGNATURES = {"mean_singles": signature, "mean_with_sum": signature}


def mean_singles(rows, weights, count, start, length, out, offset, tile, divisor):  # type: ignore[no-untyped-def]
    """Store the mean of `count` rows, two or more, from `offset` of `out` on; 0 if it is proved."""
    return mean_of(rows[0], rows, weights, count, start, length, out, offset, tile, divisor)


def mean_with_sum(rows, weights, count, start, length, out, offset, tile, divisor):  # type: ignore[no-untyped-def]
    """The same if the first row is one of float32, as a kept sum is."""
    first = singles_of(rows[0])
    return mean_of(first, rows, weights, count, start, length, out, offset, tile, divisor)


@register_jitable
def mean_of(first, rows, weights, count, start, length, out, offset, tile, divisor):  # type: ignore[no-untyped-def]
    """The mean of the row `first`, in place of row 0, and of the others.

    The sum s is exact, so q = s / divisor is the exact quotient t rounded to float32. If the
    divisor is a power of two, q is t, or both are too small for any fp16 but zero. Else let b be
    half-way between two values of the output: a number of 12 bits, so that b * divisor fits a
    float32, and is no power of two. If s is another float32 than that, it is off by a unit in its
    last place at least, more than 2**-24 of itself. So t is off b by more than 2**-24 of b, at
    least half the distance of float32s there, and q is on the side of b that t is on. In both cases
    rounding q is rounding t.
    """
    if not is_native(out):
        return 1
    sums = singles_of(tile)
    first_weight = np.float32(weights[0])
    two, two_weight = rows[1], np.float32(weights[1])
    odd = np.int32(0)
    if count == 2:
        # separate from the loops below, because most soups have two ingredients
        for i in range(length):
            total, rest = add(first, first_weight, two, two_weight, start + i)
            odd = either(odd, doubt(out, total, rest))
            put(out, offset + i, total / np.float32(divisor))
        return odd
    for i in range(length):
        sums[i] = first_weight * single(first, start + i) + np.float32(0.0)
    row = 1
    if count % 2 == 0:
        for i in range(length):
            total, rest = two_sum(sums[i], two_weight * single(two, start + i))
            odd = either(odd, is_odd(rest))
            sums[i] = total
        row = 2
    while row + 2 < count:
        one, one_weight = rows[row], np.float32(weights[row])
        two, two_weight = rows[row + 1], np.float32(weights[row + 1])
        for i in range(length):
            total, rest = two_sum(sums[i], one_weight * single(one, start + i))
            total, rest_too = two_sum(total, two_weight * single(two, start + i))
            odd = either(odd, either(is_odd(rest), is_odd(rest_too)))
            sums[i] = total
        row += 2
    one, one_weight = rows[row], np.float32(weights[row])
    two, two_weight = rows[row + 1], np.float32(weights[row + 1])
    for i in range(length):
        total, rest = two_sum(sums[i], one_weight * single(one, start + i))
        total, rest_too = two_sum(total, two_weight * single(two, start + i))
        odd = either(odd, either(is_odd(rest), doubt(out, total, rest_too)))
        put(out, offset + i, total / np.float32(divisor))
    return odd


@register_jitable
def add(one, one_weight, two, two_weight, index):  # type: ignore[no-untyped-def]
    """The sum of two weighted elements, never -0.0, and what its rounding left out."""
    first = one_weight * single(one, index)
    total, rest = two_sum(first, two_weight * single(two, index))
    return total + np.float32(0.0), rest


# 32 bits wide: numba's default integers would halve the number of elements per vector


@intrinsic
def either(typing_context, one, other):  # type: ignore[no-untyped-def]
    """The bits of two int32."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.or_(*arguments)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def is_odd(typing_context, rest):  # type: ignore[no-untyped-def]
    """An int32: whether a sum has left anything out, or is not finite."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        zero = ir.Constant(ir.FloatType(), 0.0)
        return builder.zext(builder.fcmp_unordered("!=", arguments[0], zero), WORD)

    return types.int32(types.float32), generate


@intrinsic
def doubt(typing_context, row, total, rest):  # type: ignore[no-untyped-def]
    """An int32: whether a sum is not proved exact, or its quotient not to be rounded to `row`."""
    largest = LARGEST_BFLOAT if row.dtype == BFLOAT else LARGEST_HALF

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _row, total, rest = arguments
        odd = builder.fcmp_unordered("!=", rest, ir.Constant(ir.FloatType(), 0.0))
        size = builder.and_(builder.bitcast(total, WORD), WORD(SINGLE_MAGNITUDE))
        odd = builder.or_(odd, builder.icmp_signed(">", size, WORD(largest)))
        if row.dtype == BFLOAT:
            # zero becomes the largest integer
            less = builder.sub(size, WORD(1))
            odd = builder.or_(odd, builder.icmp_unsigned("<", less, WORD(SMALLEST_BFLOAT - 1)))
        return builder.zext(odd, WORD)

    return types.int32(row, types.float32, types.float32), generate


@intrinsic
def rounded_bits(typing_context, value):  # type: ignore[no-untyped-def]
    """The 16 bits of a finite float32 rounded to bf16."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        bits = builder.bitcast(arguments[0], WORD)
        # half a unit, or slightly less if the last bit that is kept is even
        last = builder.and_(builder.lshr(bits, WORD(16)), WORD(1))
        up = builder.add(builder.add(bits, WORD(0x7FFF)), last)
        return builder.trunc(builder.lshr(up, WORD(16)), ir.IntType(16))

    return types.int16(types.float32), generate


@intrinsic
def singles_of(typing_context, memory):  # type: ignore[no-untyped-def]
    """The memory of a tile, or a row, as a row of float32."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(SINGLES))

    return SINGLES(memory), generate


@intrinsic
def load_half(typing_context, row, index):  # type: ignore[no-untyped-def]
    """Element `index` of a row of fp16 as a float32, by the processor's own widening."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.HalfType()
        pointer = builder.bitcast(arguments[0], kind.as_pointer())
        place = builder.gep(pointer, [arguments[1]], source_etype=kind)
        return builder.fpext(builder.load(place, align=1, typ=kind), ir.FloatType())

    return types.float32(row, types.intp), generate


@intrinsic
def store_half(typing_context, row, index, value):  # type: ignore[no-untyped-def]
    """Put a float32 at `index` of a row of fp16, rounded by the processor to nearest even."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.HalfType()
        pointer = builder.bitcast(arguments[0], kind.as_pointer())
        place = builder.gep(pointer, [arguments[1]], source_etype=kind)
        builder.store(builder.fptrunc(arguments[2], kind), place, align=1)
        return context.get_dummy_value()

    return types.void(row, types.intp, types.float32), generate


def is_native(row):  # type: ignore[no-untyped-def]
    """Whether rows of the type can be widened and rounded here; compiled code only."""
    raise NotImplementedError


@overload(is_native)
def _is_native(row):  # type: ignore[no-untyped-def]
    native = row.dtype in (HALF, BFLOAT)
    return lambda row: native


def single(row, index):  # type: ignore[no-untyped-def]
    """The exact float32 of element `index` of `row`; compiled code only."""
    raise NotImplementedError


@overload(single)
def _single(row, index):  # type: ignore[no-untyped-def]
    if row.dtype == HALF:
        # numba compiles the returned function, which an intrinsic cannot be
        return lambda row, index: load_half(row, index)  # noqa: PLW0108
    if row.dtype == BFLOAT:
        return lambda row, index: single_of(np.int32(np.uint32(load(row, index)) << 16))
    if row.dtype == types.float32:
        return lambda row, index: load(row, index)  # noqa: PLW0108
    # never reached, but compiled
    return lambda row, index: np.float32(0.0)


def put(row, index, value):  # type: ignore[no-untyped-def]
    """Round a float32 to element `index` of `row`; compiled code only."""
    raise NotImplementedError


@overload(put)
def _put(row, index, value):  # type: ignore[no-untyped-def]
    if row.dtype == HALF:
        return lambda row, index, value: store_half(row, index, value)  # noqa: PLW0108

    return lambda row, index, value: store(row, index, rounded_bits(value))
