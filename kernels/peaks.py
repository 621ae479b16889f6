"""A bound on the sums of some elements, from the largest magnitude in each row.

Rule 1: it takes a small part of the time of the sums, which are not needed to find the largest sum
where the bound is below one that was found.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core.typing import Signature
from numba.extending import intrinsic

from .floats import BFLOAT, E4M3, E5M2, HALF, HALF_AS_BITS, ROW_TYPES, bits_of, widen
from .sums import FLOATS

# integers as wide as an element: numba's default ones would be compared four at a time, not 32
BITS = {
    types.float64: types.uint64,
    types.float32: types.uint32,
    **dict.fromkeys((HALF, HALF_AS_BITS, BFLOAT), types.uint16),
    **dict.fromkeys((E5M2, E4M3), types.uint8),
}


def signature(rows_of: str) -> Signature:
    """The signature of `peaks` for rows of the type of that name."""
    row, whole = types.CPointer(ROW_TYPES[rows_of]), types.int64
    return types.int64(types.CPointer(row), FLOATS, whole, whole, whole, whole, row)


SIGNATURES = {"peaks": signature}


def peaks(rows, weights, first, last, start, length, cell):  # type: ignore[no-untyped-def]
    """The bits of the sum, over rows `first` to `last`, of largest magnitude times |weight|.

    The magnitudes are those of elements from `start` on; their bits are in the same order. The sum
    is NaN or infinite if one of them is. `cell` is memory for one element.
    """
    total = 0.0
    for row in range(first, last):
        values = rows[row]
        most = magnitude(values, start)
        for i in range(1, length):
            most = larger(most, magnitude(values, start + i))
        keep(cell, most)
        total += abs(weights[row]) * widen(cell, 0)
    return bits_of(total)


@intrinsic
def magnitude(typing_context, row, index):  # type: ignore[no-untyped-def]
    """The bits of element `index` of a row, without its sign."""
    result = BITS[row.dtype]

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(result)
        pointer = builder.bitcast(arguments[0], kind.as_pointer())
        place = builder.gep(pointer, [arguments[1]], source_etype=kind)
        bits = builder.load(place, align=1, typ=kind)
        return builder.and_(bits, ir.Constant(kind, 2 ** (kind.width - 1) - 1))

    return result(row, types.intp), generate


@intrinsic
def larger(typing_context, one, other):  # type: ignore[no-untyped-def]
    """The larger of two unsigned integers of the same width."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.select(builder.icmp_unsigned(">", *arguments), *arguments)

    return one(one, other), generate


@intrinsic
def keep(typing_context, cell, bits):  # type: ignore[no-untyped-def]
    """Put the bits of an element into a row of one."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(bits)
        place = builder.bitcast(arguments[0], kind.as_pointer())
        builder.store(arguments[1], place, align=1)
        return context.get_dummy_value()

    return types.void(cell, bits), generate
