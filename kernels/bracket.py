"""Rounding where a bound of the error decides it.

Rule 1: both ends of the interval that holds the exact value are float64s; rounding is monotone, so
if they round to the same value of the output format, so does the exact one.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import register_jitable

from .floats import MAGNITUDE, ROW_TYPES, bits_of, store, two_sum, widen
from .rounding import OUT_TYPES, encode
from .sums import FLOATS, INTEGERS
from .tables import LIMIT, NORMAL, PRECISION, SIGN

ULP = 2.0**-52


def signature(dtype: str, bits: str) -> Signature:
    """The signature of `bracket` for a row of a dtype and an output of as many bits."""
    kinds = ROW_TYPES[dtype], OUT_TYPES[bits], types.int8
    source, out, doubts = (types.CPointer(kind) for kind in kinds)
    whole, real = types.int64, types.float64
    return types.int64(
        *(source, whole, whole, whole, whole, real, real),
        *(FLOATS, FLOATS, FLOATS, out, doubts, INTEGERS),
    )


SIGNATURES = {"bracket": signature}


def bracket(  # type: ignore[no-untyped-def]
    source, start, origin, length, width, share, lost, near, rows, columns, out, doubts, table
):
    """Store the rounded values of share * source + near that are decided; how many are not.

    They are `length` elements of the source from `start` on, and of rows of `width` elements from
    `origin` on, of which `near` begins with the first. `near` is within rows[r] * columns[c] of
    what it stands for, and the share within `lost` of its size.
    """
    layout = (table[PRECISION], table[NORMAL], table[SIGN])
    limit = table[LIMIT]
    doubtful = 0
    done = 0
    while done < length:
        row, column = (origin + done) // width, (origin + done) % width
        count = min(width - column, length - done)
        bound = rows[row]
        for i in range(count):
            x = share * widen(source, start + done + i)
            guess = near[origin + done + i]
            below, above = interval(x, guess, bound * columns[column + i], lost)
            encoded, _ = encode(out, below, layout)
            other, _ = encode(out, above, layout)
            wrong = (encoded != other) | (bits_of(below) & MAGNITUDE > limit)
            wrong |= bits_of(above) & MAGNITUDE > limit
            store(out, done + i, encoded)
            doubts[done + i] = wrong
            doubtful += wrong
        done += count
    return doubtful


@register_jitable
def interval(x, near, bound, lost):  # type: ignore[no-untyped-def]
    """The ends of an interval that holds the exact sum of what x and near stand for.

    Their sum is off by what `two_sum` tells; adding a margin to it, and taking it away, rounds once
    more. A sum of zeros is +0.0.
    """
    value, rest = two_sum(x, near)
    margin = bound + abs(rest) + lost * abs(x)
    margin = margin * (1.0 + 4.0 * ULP) + (ULP * abs(value) if margin != 0.0 else 0.0)
    return (value - margin) + 0.0, (value + margin) + 0.0
