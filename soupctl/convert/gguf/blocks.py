"""Q8_0 blocks: 32 values as one scale of float16 and 32 whole numbers from -127 to 127.

Rule 1: the arithmetic is that of ggml (quantize_row_q8_0_ref), in float32: the scale d is the
largest magnitude of a block over 127, each number is the value times 1 / d, rounded to the nearest,
halves away from zero, and then d is rounded to float16.
Rule 2: number times scale is exact in float32, so reading blocks loses nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...format.gguf import BLOCK, BLOCK_BYTES

Singles = NDArray[np.float32]
LARGEST = 127


def values_of(blocks: memoryview) -> Singles:
    """The values that whole blocks stand for, exactly."""
    raw = np.frombuffer(blocks, np.uint8).reshape(-1, BLOCK_BYTES)
    scales = np.ascontiguousarray(raw[:, :2]).view("<f2").astype(np.float32)
    numbers = np.ascontiguousarray(raw[:, 2:]).view(np.int8).astype(np.float32)
    with np.errstate(invalid="ignore"):
        values: Singles = (numbers * scales).reshape(-1)
    return values


def blocks_of(values: Singles) -> bytes:
    """Values, as many as fill whole blocks, as blocks; OverflowError for a scale beyond float16."""
    rows = values.reshape(-1, BLOCK)
    scales = np.abs(rows).max(axis=1, keepdims=True) / np.float32(LARGEST)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(scales == 0, np.float32(0), np.float32(1) / scales)
        stored = scales.astype("<f2")
    if not (np.isfinite(stored).all() and np.isfinite(inverse).all()):
        raise OverflowError("a block has values that Q8_0 does not hold")
    scaled = rows * inverse
    sizes = np.abs(scaled)
    whole = np.floor(sizes)
    rounded = whole + np.floor(2 * (sizes - whole))
    numbers = (np.sign(scaled) * rounded).astype(np.int8)
    return np.concatenate([stored.view(np.uint8), numbers.view(np.uint8)], axis=1).tobytes()
