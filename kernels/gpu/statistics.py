"""Statistics of two tensors in one pass: distance, products, largest difference, nonfinite.

Rule 1: everything is computed in float64 from the exact values, so each sum of n terms is off by at
most n * 2**-53 of the sum of their magnitudes; the order of addition is the device's.
Rule 2: elements that are not finite in one of the tensors are counted, and otherwise ignored.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .arithmetic import EXPONENT, bits_of, widen
from .launch import options, parts
from .layout import SUM_BLOCK, THREADS, blocks_in
from .reference import FIGURES, joined


@triton.jit(do_not_specialize=["blocks", "first", "length"])
def statistics_kernel(  # type: ignore[no-untyped-def]
    one_ptr, other_ptr, figures_ptr, blocks, first, length,
    ONE: tl.constexpr, OTHER: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The figures of each block, one row of the table a figure."""
    block = first + tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    offset = block * BLOCK + place
    inside = place < length
    mask = None if WHOLE else inside
    one = widen(tl.load(one_ptr + offset, mask=mask, other=None if WHOLE else 0), ONE)
    other = widen(tl.load(other_ptr + offset, mask=mask, other=None if WHOLE else 0), OTHER)
    odd = ((bits_of(one) & EXPONENT) == EXPONENT) | ((bits_of(other) & EXPONENT) == EXPONENT)
    one = tl.where(odd, 0.0, one)
    other = tl.where(odd, 0.0, other)
    difference = one - other
    place_ptr = figures_ptr + block
    tl.store(place_ptr, tl.sum(difference * difference, 0))
    tl.store(place_ptr + blocks, tl.sum(one * other, 0))
    tl.store(place_ptr + 2 * blocks, tl.sum(one * one, 0))
    tl.store(place_ptr + 3 * blocks, tl.sum(other * other, 0))
    tl.store(place_ptr + 4 * blocks, tl.max(tl.abs(difference), 0))
    tl.store(place_ptr + 5 * blocks, tl.sum(odd.to(tl.float64), 0))


def launch_statistics(
    formats: tuple[str, str], one: torch.Tensor, other: torch.Tensor
) -> torch.Tensor:
    """The FIGURES of two tensors (integers [size] each), float64 [6], on their device."""
    size = one.numel()
    blocks = blocks_in(size, SUM_BLOCK)
    figures = torch.zeros(FIGURES, max(blocks, 1), dtype=torch.float64, device=one.device)
    for count, *part in parts(size, SUM_BLOCK):
        statistics_kernel[(count,)](
            one, other, figures, blocks, *part[:2],
            *formats, part[2], SUM_BLOCK, **options(THREADS),
        )  # fmt: skip
    return joined(figures)
