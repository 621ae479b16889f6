"""The kernels' arithmetic in plain PyTorch, on any device: the reference for their tests.

Rule 1: every step is that of arithmetic.py, so the bits and the blocks in doubt are the same.
Rule 2: nothing here needs triton: this is what tensors on the processor run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layout import LOST, SUM_BLOCK, UNROUNDED, MeanConfig, OutputFormat, UpdateConfig, blocks_in

MAGNITUDE = 2**63 - 1
EXPONENT = 0x7FF << 52
LOW_HALF = 2**27 - 1
SMALLEST_SAFE, LARGEST_SAFE = 2.0**-900, 2.0**1000
SPLITTER = 2.0**27 + 1.0

Sums = tuple[Tensor, Tensor, Tensor]


def bits_of(value: Tensor) -> Tensor:
    """The 64 bits of each float64."""
    return value.view(torch.int64)


def float_of(bits: Tensor) -> Tensor:
    """The float64 of each 64 bits."""
    return bits.view(torch.float64)


def widen(bits: Tensor, format: str) -> Tensor:
    """The exact float64 of each element's bits."""
    if format == "F64":
        return float_of(bits)
    if format == "F32":
        return bits.view(torch.float32).double()
    if format == "F16":
        return bits.view(torch.float16).double()
    if format == "BF16":
        return (bits.int() << 16).view(torch.float32).double()
    wide = bits.short()
    if format == "F8_E5M2":
        return (wide << 8).view(torch.float16).double()
    half = ((wide & 0x7F) << 7) | (wide & -0x8000)
    half = torch.where((wide & 0x7F) == 0x7F, 0x7E00, half).short()
    return half.view(torch.float16).double() * 256.0


def two_sum(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sums, and exactly what rounding left out (Knuth, TAOCP 2, 4.2.2, theorem B)."""
    total = first + second
    seen = total - first
    return total, (first - (total - seen)) + (second - seen)


def upper_half(value: Tensor) -> Tensor:
    """Each float64 without the lower half of its significand."""
    return float_of(bits_of(value) & ~LOW_HALF)


def product(value: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Weighted float64s, rounded, and their exact rounding errors."""
    rounded = weight * value
    upper = upper_half(value)
    return rounded, weight * (value - upper) - (rounded - weight * upper)


def add_term(sums: Sums, bits: Tensor, weight: float, format: str, bounded: bool) -> Sums:
    """The three sums with one weighted row more; of bounded ones only the first changes."""
    total, low, size = sums
    value = widen(bits, format)
    if bounded:
        return total + weight * value, low, size
    if format == "F64":
        rounded, left = product(value, weight)
        total, rest = two_sum(total, rounded)
        low, lost = two_sum(low, rest)
        low, lost_too = two_sum(low, left)
        return total, low, size + (lost.abs() + lost_too.abs())
    total, rest = two_sum(total, weight * value)
    low = low + rest
    return total, low, size + low.abs() * 2.0**-53


def encode(value: Tensor, out: OutputFormat) -> tuple[Tensor, Tensor]:
    """The bits of each value rounded to a format, in int64, and whether it lies half-way."""
    bits = bits_of(value)
    if out.precision == 53:
        return bits, torch.zeros_like(bits, dtype=torch.bool)
    magnitude = bits & MAGNITUDE
    exponent = (magnitude & EXPONENT).clamp(min=out.normal)
    far_bits = exponent + ((53 - out.precision) << 52)
    far = float_of(far_bits)
    near = float_of(magnitude) + far
    encoded = bits_of(near) - far_bits + ((exponent - out.normal) >> (53 - out.precision))
    rounding = (float_of(magnitude) - (near - far)).abs()
    boundary = rounding == float_of(exponent - (out.precision << 52))
    return encoded | ((bits >> 63) & out.sign), boundary


def settle(sums: Sums, weight: float, out: OutputFormat) -> tuple[Tensor, Tensor]:
    """The rounded quotients by Ziv's test, and whether each is proved (rounding.py, `settle`)."""
    total, low, size = sums
    high, rest = two_sum(total, low)
    q = high / weight
    upper = upper_half(q)
    remainder = (high - upper * weight) - (q - upper) * weight
    numerator, lost = two_sum(remainder, rest)
    delta = numerator / weight
    short = (bits_of(delta) & LOW_HALF == 0) & (delta * weight == numerator)
    exact = (size == 0.0) & (lost == 0.0) & short
    margin = torch.where(exact, 0.0, delta.abs() * 2.0**-50 + 4.0 * size)
    below, above = q + (delta - margin), q + (delta + margin)
    encoded, boundary = encode(below, out)
    safe = (high.abs() > SMALLEST_SAFE) & (high.abs() < LARGEST_SAFE)
    known = safe | ((high == 0.0) & (size == 0.0))
    inside = (bits_of(below) & MAGNITUDE <= out.limit) & ~boundary
    return encoded, (below == above) & known & inside


def two_product(first: Tensor, second: float) -> tuple[Tensor, Tensor]:
    """The rounded products, and exactly what rounding left out (Dekker, 1971)."""
    rounded = first * second
    far = SPLITTER * first
    upper = far - (far - first)
    lower = first - upper
    reach = SPLITTER * second
    other_upper = reach - (reach - second)
    other_lower = second - other_upper
    left = upper * other_upper - rounded
    return rounded, ((left + upper * other_lower) + lower * other_upper) + lower * other_lower


def settle_wide(sums: Sums, weight: float, rest: float, out: OutputFormat) -> tuple[Tensor, Tensor]:
    """The rounded quotients, and whether each is proved (wide_rounding.py, `settle_wide`)."""
    total, low, size = sums
    high, low = two_sum(total, low)
    q = high / weight
    rounded, left = two_product(q, weight)
    remainder = (high - rounded) - left
    beyond = q * rest
    numerator = (remainder + low) - beyond
    magnitude = (remainder.abs() + low.abs()) + beyond.abs()
    delta = numerator / weight
    margin = (magnitude * 2.0**-48 + 4.0 * size) / weight
    exact = (magnitude == 0.0) & (size == 0.0)
    below, above = q + (delta - margin), q + (delta + margin)
    encoded, boundary = encode(below, out)
    safe = (high.abs() > SMALLEST_SAFE) & (high.abs() < LARGEST_SAFE)
    known = safe | ((high == 0.0) & exact)
    inside = (bits_of(below) & MAGNITUDE <= out.limit) & (exact | ~boundary)
    return encoded, (below == above) & known & inside


def finish(
    sums: Sums, divisor: Sequence[float], wide: bool, out: OutputFormat
) -> tuple[Tensor, Tensor]:
    """The bits of the rounded quotients, in int64, and which of them are in doubt.

    `divisor` is what follows the weights in their `weight_table`.
    """
    total, low, size = sums
    weight, _, rest = divisor
    q = total / weight
    encoded, boundary = encode(q, out)
    wrong = (bits_of(q) & MAGNITUDE > out.limit) | (low != 0.0) | (size != 0.0)
    if wide:
        wrong |= boundary | (rest != 0.0)
    if wrong.any():
        settled, proved = (
            settle_wide(sums, weight, rest, out) if wide else settle(sums, weight, out)
        )
        encoded = torch.where(wrong, settled, encoded)
        wrong &= ~proved
    return encoded, wrong


def mean(
    form: MeanConfig, rows: Sequence[Tensor], table: Sequence[float], out: Tensor, doubts: Tensor
) -> None:
    """Put the mean of `rows` (integers [size] each, by group) into `out`; mark blocks in doubt.

    `table` is their `weight_table`; `doubts`, int8 [blocks], becomes 1 for each block of `out` that
    is left as it was.
    """
    zero = torch.zeros(out.shape, dtype=torch.float64, device=out.device)
    sums = zero, zero, zero
    formats = [group.format for group in form.groups for _ in range(group.count)]
    for row, weight, format in zip(rows, table, formats, strict=False):
        sums = add_term(sums, row, weight, format, form.bounded)
    encoded, wrong = finish(sums, table[form.count :], form.wide, form.out)
    keep_proved(encoded, wrong, form.block, out, doubts)


def keep_proved(encoded: Tensor, wrong: Tensor, block: int, out: Tensor, doubts: Tensor) -> None:
    """Write the proved blocks to `out`, and mark the other blocks in `doubts`."""
    marked = blockwise(wrong, block)
    doubts.copy_(marked)
    kept = ~marked.repeat_interleave(block)[: out.numel()]
    out.copy_(torch.where(kept, encoded.to(out.dtype), out))


def blockwise(wrong: Tensor, block: int) -> Tensor:
    """Whether any element of each block is wrong."""
    blocks = blocks_in(wrong.numel(), block)
    padded = wrong.new_zeros(blocks * block)
    padded[: wrong.numel()] = wrong
    return padded.view(blocks, block).any(1)


def add_exactly(
    planes: Sequence[Tensor], bits: Tensor, weight: float, format: str
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The planes with a weighted row more, and which elements they could not take up."""
    value = widen(bits, format)
    rounded, left = product(value, weight)
    total, rest = two_sum(planes[0], rounded)
    if len(planes) == 1:
        return (total,), rest.abs() + left.abs() != 0.0
    low, lost = two_sum(planes[1], rest)
    low, lost_too = two_sum(low, left)
    return two_sum(total, low), lost.abs() + lost_too.abs() != 0.0


def update(
    form: UpdateConfig,
    planes: Tensor,
    row: Tensor,
    table: Sequence[float],
    out: Tensor | None,
    marks: Tensor,
) -> None:
    """Add `row` to `planes` and round them into `out`; see `launch_update`."""
    size = row.numel()
    added: tuple[Tensor, ...] = tuple(planes)
    lost = torch.zeros_like(row, dtype=torch.bool)
    for weight in table[: form.terms]:
        added, left = add_exactly(added, row, weight, form.format)
        lost |= left
    skipped = marks & LOST != 0
    lost_blocks = blockwise(lost, SUM_BLOCK) | skipped
    kept = ~lost_blocks.repeat_interleave(SUM_BLOCK)[:size]
    for plane, new in zip(planes, added, strict=True):
        plane.copy_(torch.where(kept, new, plane))
    doubtful = torch.zeros_like(lost_blocks)
    if out is not None and form.out is not None:
        zero = torch.zeros_like(added[0])
        sums = (added[0], added[1] if form.planes == 2 else zero, zero)
        encoded, wrong = finish(sums, table[form.terms :], form.wide, form.out)
        doubtful = blockwise(wrong, SUM_BLOCK) & ~lost_blocks
        kept &= ~doubtful.repeat_interleave(SUM_BLOCK)[:size]
        out.copy_(torch.where(kept, encoded.to(out.dtype), out))
    new_marks = LOST * lost_blocks.to(torch.int8) + UNROUNDED * doubtful.to(torch.int8)
    marks.copy_(torch.where(skipped, marks, new_marks))


FIGURES = 6
"""Sum of (a - b)**2, of a * b, of a**2, of b**2; the largest |a - b|; how many are not finite."""
LARGEST = 4


def statistics(formats: tuple[str, str], one: Tensor, other: Tensor) -> Tensor:
    """The FIGURES of two tensors (integers [size] each), float64 [6]; see `launch_statistics`."""
    left, right = widen(one, formats[0]), widen(other, formats[1])
    odd = ~(left.isfinite() & right.isfinite())
    left, right = left.masked_fill(odd, 0.0), right.masked_fill(odd, 0.0)
    difference = left - right
    terms = (difference**2, left * right, left**2, right**2, difference.abs(), odd.double())
    return joined(torch.stack(terms))


def joined(figures: Tensor) -> Tensor:
    """The figures of all elements or blocks together, float64 [6]."""
    total = figures.sum(1)
    total[LARGEST] = figures[LARGEST].amax() if figures.numel() else 0.0
    return total
