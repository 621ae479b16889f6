"""sum += w * x and soup = round(sum / W), in one pass over sums that stay in memory.

Rule 1: a sum is one float64 or two, and exact: a block where that does not hold any more is marked
LOST and left as it was, its sums and its means.
Rule 2: two planes are kept as the nearest float64 and what it leaves, so they are a function of the
sum alone; whatever is added and taken out again leaves no trace.
Rule 3: a block that is marked LOST before is not touched, so that an update can be undone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .arithmetic import finish, product, two_sum, widen
from .launch import ELEMENTS, options, parts
from .layout import SUM_BLOCK, THREADS, OutputFormat, UpdateConfig


@triton.jit
def add_exactly(  # type: ignore[no-untyped-def]
    total, low, value, weight, FORMAT: tl.constexpr, PLANES: tl.constexpr
):
    """The two planes plus a weighted term, and the remainder that they cannot hold."""
    if FORMAT == "F64":
        rounded, left = product(value, weight)
    else:
        rounded = weight * value
        left = tl.zeros_like(rounded)
    total, rest = two_sum(total, rounded)
    if PLANES == 1:
        lost = tl.abs(rest) + tl.abs(left)
    else:
        low, lost = two_sum(low, rest)
        low, lost_too = two_sum(low, left)
        lost = tl.abs(lost) + tl.abs(lost_too)
        total, low = two_sum(total, low)
    return total, low, lost


@triton.jit(do_not_specialize=["first", "length"])
def update_kernel(  # type: ignore[no-untyped-def]
    total_ptr, low_ptr, row_ptr, table_ptr, out_ptr, marks_ptr, first, length,
    FORMAT: tl.constexpr, OUT_ELEMENT: tl.constexpr, PRECISION: tl.constexpr,
    NORMAL: tl.constexpr, LIMIT: tl.constexpr, SIGN: tl.constexpr, POWER: tl.constexpr,
    WIDE: tl.constexpr, PLANES: tl.constexpr, TERMS: tl.constexpr, ROUNDS: tl.constexpr,
    WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add a row to the sums; with ROUNDS, round them over what follows the weights in the table."""
    block = first + tl.program_id(0).to(tl.int64)
    if tl.load(marks_ptr + block) & 1:
        return
    place = tl.arange(0, BLOCK)
    offset = block * BLOCK + place
    inside = place < length
    mask = None if WHOLE else inside
    total = tl.load(total_ptr + offset, mask=mask, other=None if WHOLE else 0.0)
    low = tl.zeros_like(total)
    if PLANES == 2:
        low = tl.load(low_ptr + offset, mask=mask, other=None if WHOLE else 0.0)
    bits = tl.load(row_ptr + offset, mask=mask, other=None if WHOLE else 0)
    value, weight = widen(bits, FORMAT), tl.load(table_ptr)
    total, low, left = add_exactly(total, low, value, weight, FORMAT, PLANES)
    for term in tl.static_range(1, TERMS):
        weight = tl.load(table_ptr + term)
        total, low, more = add_exactly(total, low, value, weight, FORMAT, PLANES)
        left += more
    lost = tl.max(((left != 0.0) & inside).to(tl.int32), 0)
    kept = lost == 0 if WHOLE else inside & (lost == 0)
    tl.store(total_ptr + offset, total, mask=kept)
    if PLANES == 2:
        tl.store(low_ptr + offset, low, mask=kept)
    doubt = tl.zeros_like(lost)
    if ROUNDS:
        encoded, doubt = finish(
            total, low, tl.zeros_like(total), table_ptr, TERMS, inside,
            PRECISION, NORMAL, LIMIT, SIGN, POWER, WIDE, False,
        )  # fmt: skip
        tl.store(out_ptr + offset, encoded.to(OUT_ELEMENT), mask=kept & (doubt == 0))
    tl.store(marks_ptr + block, tl.where(lost == 1, 1, doubt << 1).to(tl.int8))


@triton.jit(do_not_specialize=["first", "length"])
def settle_kernel(  # type: ignore[no-untyped-def]
    total_ptr, low_ptr, table_ptr, out_ptr, marks_ptr, first, length,
    OUT_ELEMENT: tl.constexpr, PRECISION: tl.constexpr, NORMAL: tl.constexpr,
    LIMIT: tl.constexpr, SIGN: tl.constexpr, POWER: tl.constexpr, WIDE: tl.constexpr,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Round the sums of those blocks again whose sums are exact and whose means are not proved."""
    block = first + tl.program_id(0).to(tl.int64)
    if tl.load(marks_ptr + block) != 2:
        return
    place = tl.arange(0, BLOCK)
    offset = block * BLOCK + place
    inside = place < length
    total = tl.load(total_ptr + offset, mask=inside, other=0.0)
    low = tl.load(low_ptr + offset, mask=inside, other=0.0)
    encoded, doubt = finish(
        total, low, tl.zeros_like(total), table_ptr, TERMS, inside,
        PRECISION, NORMAL, LIMIT, SIGN, POWER, WIDE, True,
    )  # fmt: skip
    tl.store(out_ptr + offset, encoded.to(OUT_ELEMENT), mask=inside & (doubt == 0))
    tl.store(marks_ptr + block, (doubt << 1).to(tl.int8))


# a placeholder that is not read if no means are wanted
NO_LAYOUT = OutputFormat(8, 4, 0, 0, 0)


def launch_update(
    form: UpdateConfig,
    planes: torch.Tensor,
    row: torch.Tensor,
    table: torch.Tensor,
    out: torch.Tensor | None,
    marks: torch.Tensor,
) -> None:
    """Queue the addition of `row` (integers [size]) to `planes` (float64 [planes, size]).

    `table` is the `weight_table` of its weights, float64 [terms + 3]; `out`, integers [size],
    becomes the means; `marks`, int8 [blocks], is LOST where an earlier update was not carried out,
    and else zero; it becomes LOST or UNROUNDED for blocks of which that is so.
    """
    layout = form.out or NO_LAYOUT
    # there must always be a valid pointer
    target = marks if out is None else out
    element = ELEMENTS[layout.bits]
    low = planes[-1]
    for blocks, *part in parts(row.numel(), SUM_BLOCK):
        update_kernel[(blocks,)](
            planes[0], low, row, table, target, marks, *part[:2],
            form.format, element, *layout[1:], form.power, form.wide, form.planes, form.terms,
            form.out is not None, part[2], SUM_BLOCK, **options(THREADS),
        )  # fmt: skip
        if form.planes == 2 and form.out is not None:
            settle_kernel[(blocks,)](
                planes[0], low, table, target, marks, *part[:2],
                element, *layout[1:], form.power, form.wide, form.terms, SUM_BLOCK,
                **options(2 * THREADS),
            )  # fmt: skip
