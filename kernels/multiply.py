"""Products of float64 matrices, in one thread.

Rule 1: additions may go in any order; those who use a product bound its error for all orders.
Rule 2: a tile of columns is multiplied while it is in cache, four rows by four terms at a time, so
that what is in registers is used more than once; two rows where columns are a multiple of a page
apart, because eight such rows do not fit the ways of a cache.
Rule 3: multiplications and additions may be fused.
"""

from __future__ import annotations

from numba import types
from numba.core.typing import Signature
from numba.extending import register_jitable

from .sums import FLOATS

COLUMNS = 256
PAGE = 512
"""Float64s of a page."""
FUSED = {"contract"}


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
        while columns % PAGE != 0 and row + 4 <= rows:
            term = 0
            while term + 4 <= inner:
                add_square(left, right, row, term, inner, columns, first, width, out)
                term += 4
            for rest in range(term, inner):
                for each in range(row, row + 4):
                    add_term(left, right, each, rest, inner, columns, first, width, out)
            row += 4
        add_pairs(left, right, row, rows, inner, columns, first, width, out)
    return 0


@register_jitable(fastmath=FUSED)
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


@register_jitable(fastmath=FUSED)
def add_pairs(left, right, row, rows, inner, columns, first, width, out):  # type: ignore[no-untyped-def]
    """Add all terms of the rows from `row` on, two at a time."""
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


@register_jitable(fastmath=FUSED)
def add_square(left, right, row, term, inner, columns, first, width, out):  # type: ignore[no-untyped-def]
    """Add four terms of four rows."""
    a, b = row * inner + term, (row + 1) * inner + term
    c, d = (row + 2) * inner + term, (row + 3) * inner + term
    a0, a1, a2, a3 = left[a], left[a + 1], left[a + 2], left[a + 3]
    b0, b1, b2, b3 = left[b], left[b + 1], left[b + 2], left[b + 3]
    c0, c1, c2, c3 = left[c], left[c + 1], left[c + 2], left[c + 3]
    e0, e1, e2, e3 = left[d], left[d + 1], left[d + 2], left[d + 3]
    one, two = row * columns + first, (row + 1) * columns + first
    three, four = (row + 2) * columns + first, (row + 3) * columns + first
    d0 = term * columns + first
    d1, d2, d3 = d0 + columns, d0 + 2 * columns, d0 + 3 * columns
    for i in range(width):
        w, x, y, z = right[d0 + i], right[d1 + i], right[d2 + i], right[d3 + i]
        out[one + i] += (a0 * w + a1 * x) + (a2 * y + a3 * z)
        out[two + i] += (b0 * w + b1 * x) + (b2 * y + b3 * z)
        out[three + i] += (c0 * w + c1 * x) + (c2 * y + c3 * z)
        out[four + i] += (e0 * w + e1 * x) + (e2 * y + e3 * z)


@register_jitable(fastmath=FUSED)
def add_term(left, right, row, term, inner, columns, first, width, out):  # type: ignore[no-untyped-def]
    """Add one term of one row."""
    factor = left[row * inner + term]
    place, terms = row * columns + first, term * columns + first
    for i in range(width):
        out[place + i] += factor * right[terms + i]
