"""Products of float64 matrices, in one thread.

Rule 1: additions may go in any order; those who use a product bound its error for all orders.
Rule 2: a tile of columns is multiplied while it is in cache, two rows by four terms at a time, so
that what is in registers is used more than once.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import register_jitable

from .sums import FLOATS

COLUMNS = 256


def signature() -> Signature:
    """The signature of `multiply`."""
    whole = types.int64
    return types.int64(FLOATS, FLOATS, whole, whole, whole, FLOATS)


SIGNATURES = {"multiply": signature}


def multiply(left, right, rows, inner, columns, out):  # type: ignore[no-untyped-def]
    """Add left [rows, inner] times right [inner, columns] to out [rows, columns]; zero."""
    for first in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - first)
        row = 0
        while row + 2 <= rows:
            term = 0
            while term + 4 <= inner:
                add_block(left, right, row, term, inner, columns, first, width, out)
                term += 4
            for rest in range(term, inner):
                add_term(left, right, row, rest, inner, columns, first, width, out)
                add_term(left, right, row + 1, rest, inner, columns, first, width, out)
            row += 2
        if row < rows:
            for term in range(inner):
                add_term(left, right, row, term, inner, columns, first, width, out)
    return 0


@register_jitable
def add_block(left, right, row, term, inner, columns, first, width, out):  # type: ignore[no-untyped-def]
    """Add four terms of two rows."""
    a, b = row * inner + term, (row + 1) * inner + term
    a0, a1, a2, a3 = left[a], left[a + 1], left[a + 2], left[a + 3]
    b0, b1, b2, b3 = left[b], left[b + 1], left[b + 2], left[b + 3]
    one, two = row * columns + first, (row + 1) * columns + first
    d0 = term * columns + first
    d1, d2, d3 = d0 + columns, d0 + 2 * columns, d0 + 3 * columns
    for i in range(width):
        w, x, y, z = right[d0 + i], right[d1 + i], right[d2 + i], right[d3 + i]
        out[one + i] += (a0 * w + a1 * x) + (a2 * y + a3 * z)
        out[two + i] += (b0 * w + b1 * x) + (b2 * y + b3 * z)


@register_jitable
def add_term(left, right, row, term, inner, columns, first, width, out):  # type: ignore[no-untyped-def]
    """Add one term of one row."""
    factor = left[row * inner + term]
    place, terms = row * columns + first, term * columns + first
    for i in range(width):
        out[place + i] += factor * right[terms + i]
