"""Weights as whole numbers whose products with every element of a dtype are exact float64s.

Rule 1: a weight that is too long becomes several rows of one source, whose weights add up to it;
each has its sign, so that infinities keep theirs.
"""

from __future__ import annotations

from ..format.dtypes import DType

LARGEST_WEIGHT = 2**62
"""Largest weight and divisor that the integer arithmetic of every engine holds."""

NARROW_DIVISOR = 2**24
"""Largest divisor for the faster of the two rounding methods."""

PRODUCT_BITS = 53
# the product of a float64 and a weight is never exact: it is computed with its rounding error
DOUBLE_BITS = 24
SCALE_BITS = 24
"""Most bits of the significand of a scale, which is a float32."""


def split_weight(weight: int, dtype: DType, *, is_scaled: bool = False) -> tuple[int, ...]:
    """The weights of the rows that represent a source of that weight, the largest first.

    For a scaled source, their products with the scale are exact as well.
    """
    bits = DOUBLE_BITS if dtype is DType.F64 else PRODUCT_BITS - dtype.float_format.precision
    bits -= SCALE_BITS if is_scaled else 0
    sign, left = (-1 if weight < 0 else 1), abs(weight)
    parts = []
    while left.bit_length() > bits:
        shift = left.bit_length() - bits
        part = left >> shift << shift
        parts.append(sign * part)
        left -= part
    return (*parts, sign * left) if left or not parts else tuple(parts)
