"""Launch options and grids that all GPU kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import triton.language as tl
from triton import knobs
from triton.runtime import driver

ELEMENTS = {8: tl.int8, 16: tl.int16, 32: tl.int32, 64: tl.int64}


def options(threads: int) -> dict[str, int | bool]:
    """Compile options of every kernel: no product is fused into a sum."""
    # the interpreter has no threads, and no device with a warp size
    interpreted = knobs.runtime.interpret
    warp_size = 32 if interpreted else driver.active.get_current_target().warp_size
    return {"num_warps": threads // warp_size, "enable_fp_fusion": False}


def parts(size: int, block: int) -> Iterator[tuple[int, int, int, bool]]:
    """The whole blocks, and the tail: number of blocks, index of the first, elements, is whole."""
    whole, tail = divmod(size, block)
    if whole:
        yield whole, 0, block, True
    if tail:
        yield 1, whole, tail, False
