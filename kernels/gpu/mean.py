"""out = round(sum_j w_j * x_j / W) in one pass over memory, for any number of rows.

Rule 1: a block with an element that is not proved right is marked and left as it was, so the output
may be one of the rows; whoever launches the kernels computes such blocks another way.
Rule 2: rows of several formats are added group by group to sums in memory, so that a mixture needs
no kernel of its own.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .arithmetic import add_term, finish, widen
from .launch import ELEMENTS, options, parts
from .layout import BITS, THREADS, MeanConfig, blocks_in

SCANNED = 128
"""Number of blocks that one program of the second pass checks."""


@triton.jit
def sum_rows(  # type: ignore[no-untyped-def]
    total, low, size, rows_ptr, weights_ptr, count, offset, inside,
    FORMAT: tl.constexpr, ELEMENT: tl.constexpr, BOUNDED: tl.constexpr, ALIGNED: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    """The three sums with `count` rows more, whose addresses and weights lie in two tables."""
    for row in range(count):
        row_ptr = tl.load(rows_ptr + row).to(tl.pointer_type(ELEMENT))
        if ALIGNED:
            row_ptr = tl.multiple_of(row_ptr, 16)
        if WHOLE:
            bits = tl.load(row_ptr + offset)
        else:
            bits = tl.load(row_ptr + offset, mask=inside, other=0)
        weight = tl.load(weights_ptr + row)
        value = widen(bits, FORMAT)
        total, low, size = add_term(total, low, size, value, weight, FORMAT, BOUNDED)
    return total, low, size


@triton.jit
def mean_block(  # type: ignore[no-untyped-def]
    block, rows_ptr, weights_ptr, out_ptr, doubts_ptr, count, length,
    FORMAT: tl.constexpr, ELEMENT: tl.constexpr, OUT_ELEMENT: tl.constexpr,
    PRECISION: tl.constexpr, NORMAL: tl.constexpr, LIMIT: tl.constexpr, SIGN: tl.constexpr,
    POWER: tl.constexpr, WIDE: tl.constexpr, BOUNDED: tl.constexpr, ALIGNED: tl.constexpr,
    SETTLE: tl.constexpr,
    WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of the mean, and whether it is in doubt."""
    place = tl.arange(0, BLOCK)
    offset = block * BLOCK + place
    inside = place < length
    zero = tl.zeros([BLOCK], tl.float64)
    total, low, size = sum_rows(
        zero, zero, zero, rows_ptr, weights_ptr, count, offset, inside,
        FORMAT, ELEMENT, BOUNDED, ALIGNED, WHOLE,
    )  # fmt: skip
    encoded, doubt = finish(
        total, low, size, weights_ptr, count, inside, PRECISION, NORMAL, LIMIT, SIGN, POWER, WIDE,
        SETTLE,
    )  # fmt: skip
    keep = doubt == 0
    if WHOLE:
        tl.store(out_ptr + offset, encoded.to(OUT_ELEMENT), mask=keep)
    else:
        tl.store(out_ptr + offset, encoded.to(OUT_ELEMENT), mask=inside & keep)
    tl.store(doubts_ptr + block, doubt.to(tl.int8))


@triton.jit(do_not_specialize=["count", "first", "last", "length"])
def mean_kernel(  # type: ignore[no-untyped-def]
    rows_ptr, weights_ptr, out_ptr, doubts_ptr, count, first, last, length,
    FORMAT: tl.constexpr, ELEMENT: tl.constexpr, OUT_ELEMENT: tl.constexpr,
    PRECISION: tl.constexpr, NORMAL: tl.constexpr, LIMIT: tl.constexpr, SIGN: tl.constexpr,
    POWER: tl.constexpr, WIDE: tl.constexpr, BOUNDED: tl.constexpr, ALIGNED: tl.constexpr,
    SETTLE: tl.constexpr,
    WHOLE: tl.constexpr, BLOCK: tl.constexpr, SCANNED: tl.constexpr,
):  # fmt: skip
    """Blocks of the mean from `first` on, of `length` elements each.

    With SCANNED above 1, each program sees to the marked ones of so many blocks before `last`.
    """
    # int64, so that more than 2**31 elements can be addressed
    begin = first + tl.program_id(0).to(tl.int64) * SCANNED
    if SCANNED == 1:
        mean_block(
            begin, rows_ptr, weights_ptr, out_ptr, doubts_ptr, count, length,
            FORMAT, ELEMENT, OUT_ELEMENT, PRECISION, NORMAL, LIMIT, SIGN,
            POWER, WIDE, BOUNDED, ALIGNED, SETTLE, WHOLE, BLOCK,
        )  # fmt: skip
    else:
        # one program per block would take much of the time of the first pass, to do nothing
        places = begin + tl.arange(0, SCANNED)
        marks = tl.load(doubts_ptr + places, mask=places < last, other=0)
        if tl.max(marks.to(tl.int32), 0) != 0:
            for block in range(begin, tl.minimum(begin + SCANNED, last)):
                if tl.load(doubts_ptr + block) != 0:
                    mean_block(
                        block, rows_ptr, weights_ptr, out_ptr, doubts_ptr, count, length,
                        FORMAT, ELEMENT, OUT_ELEMENT, PRECISION, NORMAL, LIMIT, SIGN,
                        POWER, WIDE, BOUNDED, ALIGNED, SETTLE, WHOLE, BLOCK,
                    )  # fmt: skip


@triton.jit(do_not_specialize=["count", "first", "length"])
def add_kernel(  # type: ignore[no-untyped-def]
    rows_ptr, weights_ptr, total_ptr, low_ptr, size_ptr, count, first, length,
    FORMAT: tl.constexpr, ELEMENT: tl.constexpr, BEGINS: tl.constexpr, ALIGNED: tl.constexpr,
    WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add rows of one format to the three sums in memory, or begin the sums with them."""
    block = first + tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    offset = block * BLOCK + place
    inside = place < length
    total = tl.zeros([BLOCK], tl.float64)
    low = total
    size = total
    if not BEGINS:
        total = tl.load(total_ptr + offset, mask=None if WHOLE else inside)
        low = tl.load(low_ptr + offset, mask=None if WHOLE else inside)
        size = tl.load(size_ptr + offset, mask=None if WHOLE else inside)
    total, low, size = sum_rows(
        total, low, size, rows_ptr, weights_ptr, count, offset, inside,
        FORMAT, ELEMENT, False, ALIGNED, WHOLE,
    )  # fmt: skip
    tl.store(total_ptr + offset, total, mask=None if WHOLE else inside)
    tl.store(low_ptr + offset, low, mask=None if WHOLE else inside)
    tl.store(size_ptr + offset, size, mask=None if WHOLE else inside)


@triton.jit(do_not_specialize=["count", "first", "length"])
def round_kernel(  # type: ignore[no-untyped-def]
    total_ptr, low_ptr, size_ptr, weights_ptr, out_ptr, doubts_ptr, count, first, length,
    OUT_ELEMENT: tl.constexpr, PRECISION: tl.constexpr, NORMAL: tl.constexpr,
    LIMIT: tl.constexpr, SIGN: tl.constexpr, POWER: tl.constexpr, WIDE: tl.constexpr,
    WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Divide and round the three sums in memory."""
    block = first + tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    offset = block * BLOCK + place
    inside = place < length
    total = tl.load(total_ptr + offset, mask=None if WHOLE else inside)
    low = tl.load(low_ptr + offset, mask=None if WHOLE else inside)
    size = tl.load(size_ptr + offset, mask=None if WHOLE else inside)
    encoded, doubt = finish(
        total, low, size, weights_ptr, count, inside, PRECISION, NORMAL, LIMIT, SIGN, POWER, WIDE,
        True,
    )  # fmt: skip
    keep = doubt == 0
    bits = encoded.to(OUT_ELEMENT)
    tl.store(out_ptr + offset, bits, mask=keep if WHOLE else inside & keep)
    tl.store(doubts_ptr + block, doubt.to(tl.int8))


def launch_mean(
    form: MeanConfig,
    addresses: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor,
    doubts: torch.Tensor,
    sums: torch.Tensor | None = None,
    aligned: bool = False,
) -> None:
    """Queue the mean of rows at `addresses` (int64 [n], by group) into `out` (integers [size]).

    `weights` is their `weight_table`, float64 [n + 3]; `doubts`, int8 [blocks], becomes 1 for each
    block that is left as it was; `sums`, float64 [3, size], is written over, and needed unless
    the form is fused; `aligned` says that all addresses are multiples of ALIGNMENT.
    """
    if form.fused:
        _launch_fused(form, addresses, weights, out, doubts, aligned)
        return
    assert sums is not None
    first = 0
    for position, group in enumerate(form.groups):
        last = first + group.count
        tables = addresses[first:last], weights[first:last]
        for blocks, *part in parts(out.numel(), form.block):
            add_kernel[(blocks,)](
                *tables, sums[0], sums[1], sums[2], group.count, *part[:2],
                group.format, ELEMENTS[BITS[group.format]], position == 0, aligned, part[2],
                form.block, **options(THREADS),
            )  # fmt: skip
        first = last
    for blocks, *part in parts(out.numel(), form.block):
        round_kernel[(blocks,)](
            sums[0], sums[1], sums[2], weights, out, doubts, form.count, *part[:2],
            ELEMENTS[form.out.bits], *form.out[1:], form.power, form.wide, part[2], form.block,
            **options(2 * THREADS),
        )  # fmt: skip


def _launch_fused(
    form: MeanConfig,
    addresses: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor,
    doubts: torch.Tensor,
    aligned: bool,
) -> None:
    group = form.groups[0]
    # sums of float64 are seldom exact, so the fast path is not tried for their blocks
    always = group.format == "F64" and not form.bounded
    for settle in (False, True):
        if (settle and form.bounded) or (always and not settle):
            continue
        scanned = SCANNED if settle and not always else 1
        for blocks, first, length, whole in parts(out.numel(), form.block):
            mean_kernel[(blocks_in(blocks, scanned),)](
                addresses, weights, out, doubts, form.count, first, first + blocks, length,
                group.format, ELEMENTS[BITS[group.format]], ELEMENTS[form.out.bits],
                *form.out[1:], form.power, form.wide, form.bounded, aligned, settle, whole,
                form.block, scanned, **options((1 + settle) * THREADS),
            )  # fmt: skip
