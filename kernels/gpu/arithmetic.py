"""The arithmetic that the kernels share: widening, exact sums, division, one rounding.

Rule 1: this is the arithmetic of the kernels for processors, step by step (sums.py, rounding.py,
wide_rounding.py): what is proved there is proved here, and neither fuses a product into a sum.
Rule 2: bfloat16 and float8 are widened by integers, the same on every device and interpreted.
"""

from __future__ import annotations

import triton
import triton.language as tl

MAGNITUDE = tl.constexpr(2**63 - 1)
EXPONENT = tl.constexpr(0x7FF << 52)
LOW_HALF = tl.constexpr(2**27 - 1)
SMALLEST_SAFE = tl.constexpr(2.0**-900)
LARGEST_SAFE = tl.constexpr(2.0**1000)
SPLITTER = tl.constexpr(2.0**27 + 1.0)


@triton.jit
def bits_of(value):  # type: ignore[no-untyped-def]
    """The 64 bits of a float64."""
    return value.to(tl.int64, bitcast=True)


@triton.jit
def float_of(bits):  # type: ignore[no-untyped-def]
    """The float64 of 64 bits."""
    return bits.to(tl.float64, bitcast=True)


@triton.jit
def widen(bits, FORMAT: tl.constexpr):  # type: ignore[no-untyped-def]
    """The exact float64 of an element's bits."""
    if FORMAT == "F64":
        value = bits.to(tl.float64, bitcast=True)
    elif FORMAT == "F32":
        value = bits.to(tl.float32, bitcast=True).to(tl.float64)
    elif FORMAT == "F16":
        value = bits.to(tl.float16, bitcast=True).to(tl.float64)
    elif FORMAT == "BF16":
        value = (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True).to(tl.float64)
    elif FORMAT == "F8_E5M2":
        # the upper half of an fp16
        value = (bits.to(tl.int16) << 8).to(tl.float16, bitcast=True).to(tl.float64)
    else:
        # an fp16 of the same bits has a bias of 15 for one of 7
        wide = bits.to(tl.int16)
        half = ((wide & 0x7F) << 7) | (wide & -0x8000)
        half = tl.where((wide & 0x7F) == 0x7F, 0x7E00, half).to(tl.int16)
        value = half.to(tl.float16, bitcast=True).to(tl.float64) * 256.0
    return value


@triton.jit
def two_sum(first, second):  # type: ignore[no-untyped-def]
    """The rounded sum, and exactly what rounding left out (Knuth, TAOCP 2, 4.2.2, theorem B)."""
    total = first + second
    seen = total - first
    return total, (first - (total - seen)) + (second - seen)


@triton.jit
def product(value, weight):  # type: ignore[no-untyped-def]
    """A weighted float64, rounded, and its exact rounding error."""
    rounded = weight * value
    upper = float_of(bits_of(value) & ~LOW_HALF)
    return rounded, weight * (value - upper) - (rounded - weight * upper)


@triton.jit
def add_term(total, low, size, value, weight, FORMAT: tl.constexpr, BOUNDED: tl.constexpr):  # type: ignore[no-untyped-def]
    """The three sums with one weighted element more; with BOUNDED only the first changes."""
    if BOUNDED:
        total += weight * value
    elif FORMAT == "F64":
        rounded, left = product(value, weight)
        total, rest = two_sum(total, rounded)
        low, lost = two_sum(low, rest)
        low, lost_too = two_sum(low, left)
        size += tl.abs(lost) + tl.abs(lost_too)
    else:
        # the significand and the row's weight have at most 53 bits together, so the product is
        # exact
        total, rest = two_sum(total, weight * value)
        low += rest
        size += tl.abs(low) * 2.0**-53
    return total, low, size


@triton.jit
def divide(total, weights_ptr, count, POWER: tl.constexpr):  # type: ignore[no-untyped-def]
    """The total over the weight, which follows `count` weights in their table, rounded once."""
    # the inverse of a power of two is exact, so the product rounds like the quotient
    return (
        total * tl.load(weights_ptr + count + 1) if POWER else total / tl.load(weights_ptr + count)
    )


@triton.jit
def encode(value, PRECISION: tl.constexpr, NORMAL: tl.constexpr, SIGN: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bits of `value` rounded to a format, in an int64, and whether it lies half-way."""
    bits = bits_of(value)
    if PRECISION == 53:
        encoded = bits
        boundary = tl.zeros_like(bits) != 0
    else:
        magnitude = bits & MAGNITUDE
        exponent = tl.maximum(magnitude & EXPONENT, NORMAL)
        far_bits = exponent + ((53 - PRECISION) << 52)
        far = float_of(far_bits)
        near = float_of(magnitude) + far
        encoded = bits_of(near) - far_bits + ((exponent - NORMAL) >> (53 - PRECISION))
        encoded = encoded | ((bits >> 63) & SIGN)
        rounding = tl.abs(float_of(magnitude) - (near - far))
        boundary = rounding == float_of(exponent - (PRECISION << 52))
    return encoded, boundary


@triton.jit
def settle(  # type: ignore[no-untyped-def]
    total,
    low,
    size,
    weight,
    PRECISION: tl.constexpr,
    NORMAL: tl.constexpr,
    LIMIT: tl.constexpr,
    SIGN: tl.constexpr,
):
    """The rounded quotient by Ziv's test, and whether it is proved (rounding.py, `settle`)."""
    high, rest = two_sum(total, low)
    q = high / weight
    upper = float_of(bits_of(q) & ~LOW_HALF)
    remainder = (high - upper * weight) - (q - upper) * weight
    numerator, lost = two_sum(remainder, rest)
    delta = numerator / weight
    short = ((bits_of(delta) & LOW_HALF) == 0) & (delta * weight == numerator)
    exact = (size == 0.0) & (lost == 0.0) & short
    margin = tl.where(exact, 0.0, tl.abs(delta) * 2.0**-50 + 4.0 * size)
    below = q + (delta - margin)
    above = q + (delta + margin)
    encoded, boundary = encode(below, PRECISION, NORMAL, SIGN)
    safe = (tl.abs(high) > SMALLEST_SAFE) & (tl.abs(high) < LARGEST_SAFE)
    known = safe | ((high == 0.0) & (size == 0.0))
    inside = ((bits_of(below) & MAGNITUDE) <= LIMIT) & (boundary == 0)
    return encoded, (below == above) & known & inside


@triton.jit
def two_product(first, second):  # type: ignore[no-untyped-def]
    """The rounded product, and exactly what rounding left out (Dekker, 1971)."""
    rounded = first * second
    far = SPLITTER * first
    upper = far - (far - first)
    lower = first - upper
    far = SPLITTER * second
    other_upper = far - (far - second)
    other_lower = second - other_upper
    left = upper * other_upper - rounded
    return rounded, ((left + upper * other_lower) + lower * other_upper) + lower * other_lower


@triton.jit
def settle_wide(  # type: ignore[no-untyped-def]
    total,
    low,
    size,
    weight,
    rest,
    PRECISION: tl.constexpr,
    NORMAL: tl.constexpr,
    LIMIT: tl.constexpr,
    SIGN: tl.constexpr,
):
    """The rounded quotient, and whether it is proved (wide_rounding.py, `settle_wide`)."""
    high, low = two_sum(total, low)
    q = high / weight
    rounded, left = two_product(q, weight)
    remainder = (high - rounded) - left
    beyond = q * rest
    numerator = (remainder + low) - beyond
    magnitude = (tl.abs(remainder) + tl.abs(low)) + tl.abs(beyond)
    delta = numerator / weight
    margin = (magnitude * 2.0**-48 + 4.0 * size) / weight
    exact = (magnitude == 0.0) & (size == 0.0)
    below = q + (delta - margin)
    above = q + (delta + margin)
    encoded, boundary = encode(below, PRECISION, NORMAL, SIGN)
    safe = (tl.abs(high) > SMALLEST_SAFE) & (tl.abs(high) < LARGEST_SAFE)
    known = safe | ((high == 0.0) & exact)
    inside = ((bits_of(below) & MAGNITUDE) <= LIMIT) & (exact | (boundary == 0))
    return encoded, (below == above) & known & inside


@triton.jit
def finish(  # type: ignore[no-untyped-def]
    total,
    low,
    size,
    weights_ptr,
    count,
    inside,
    PRECISION: tl.constexpr,
    NORMAL: tl.constexpr,
    LIMIT: tl.constexpr,
    SIGN: tl.constexpr,
    POWER: tl.constexpr,
    WIDE: tl.constexpr,
    SETTLE: tl.constexpr,
):
    """The bits of the rounded quotients, in int64, and whether any of the block is in doubt.

    WIDE is for divisors that may exceed 2**24. What needs SETTLE is rare and takes many registers,
    so it is compiled apart.
    """
    q = divide(total, weights_ptr, count, POWER)
    encoded, boundary = encode(q, PRECISION, NORMAL, SIGN)
    wrong = (bits_of(q) & MAGNITUDE) > LIMIT
    wrong = wrong | (low != 0.0) | (size != 0.0)
    if WIDE:
        # a vector like the others, because the interpreter cannot combine it with a scalar
        rest = tl.load(weights_ptr + count + 2) + tl.zeros_like(q)
        wrong = wrong | (boundary != 0) | (rest != 0.0)
    if SETTLE:
        weight = tl.load(weights_ptr + count)
        if WIDE:
            settled, proved = settle_wide(
                total, low, size, weight, rest, PRECISION, NORMAL, LIMIT, SIGN
            )
        else:
            settled, proved = settle(total, low, size, weight, PRECISION, NORMAL, LIMIT, SIGN)
        # not where the total is the exact sum: there a tie is correct, and Ziv's test cannot tell
        encoded = tl.where(wrong, settled, encoded)
        wrong = wrong & (proved == 0)
    return encoded, tl.max((wrong & inside).to(tl.int32), 0)
