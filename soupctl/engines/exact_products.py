"""Exact products of two matrices, as planes of float64 that add up to them.

Rule 1: both matrices are cut into slices of so few bits that float64 sums of their products are
exact in any order, as in Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix
multiplication by using fast routines of matrix multiplication and its applications" (2012).
"""

from __future__ import annotations

import numpy as np

from .exact_planes import Planes
from .updates import Floats, add_product

PRECISION = 53
MOST_SLICES = 3
"""Most slices of one matrix; more would cost more than products of single elements."""


def slice_bits(inner: int) -> int:
    """The bits of a slice, such that sums of so many products of two slices are exact."""
    return (PRECISION - (inner - 1).bit_length()) // 2


def slices_of(values: Floats, axis: int, bits: int) -> list[Floats] | None:
    """Matrices that add up to finite `values`; None for more than `MOST_SLICES`.

    In each, the elements along an axis are multiples of a power of two, of at most 2**bits times
    that.
    """
    _, exponents = np.frexp(np.abs(values).max(axis=axis, keepdims=True, initial=0.0))
    found: list[Floats] = []
    rest = values
    while rest.any():
        if len(found) == MOST_SLICES:
            return None
        exponents = exponents - bits
        part = np.ldexp(np.rint(np.ldexp(rest, -exponents)), exponents)
        found.append(np.ascontiguousarray(part))
        rest = rest - part
    return found


def exact_product(left: list[Floats], right: list[Floats], shape: tuple[int, int]) -> Planes:
    """The planes [planes, rows, columns] of the product of two matrices, given as slices."""
    planes = np.zeros((max(1, len(left) * len(right)), *shape))
    pairs = ((one, other) for one in left for other in right)
    # one plane of zeros if either is zero
    for plane, (one, other) in zip(planes, pairs, strict=False):
        add_product(one, other, plane)
    return planes
