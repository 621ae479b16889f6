"""Checkpoints whose bytes are drawn by a hash: the same on every machine and in every version.

Rule 1: only integers are computed, so that nothing but this file decides which bytes they hold.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from making import Raw, save_raw

ONES = {
    "F8_E4M3": (1, 0x38),
    "F8_E5M2": (1, 0x3C),
    "F16": (2, 0x3C00),
    "BF16": (2, 0x3F80),
    "F32": (4, 0x3F800000),
    "F64": (8, 0x3FF0000000000000),
}
"""For each float dtype, its size in bytes and the bits of 1.0."""
DTYPES = tuple(ONES)


def floats(dtype: str, count: int, seed: str) -> bytes:
    """Finite floats of both signs, by turns of any size below 2 and from 1 to 4."""
    size, one = ONES[dtype]
    sign = 1 << (8 * size - 1)
    # exponents of 1.0 are odd, so the lowest bit that is set counts them
    binade = one & -one
    drawn = hashlib.shake_256(f"{dtype} {seed}".encode()).digest(count * size)
    words = np.frombuffer(drawn, f"<u{size}").astype(np.uint64)
    any_below_two = words & np.uint64(~(sign >> 1) & (2 * sign - 1))
    near_one = (words & np.uint64(sign)) | (np.uint64(one) + words % np.uint64(2 * binade))
    odd = np.arange(count) % 2 == 1
    return np.where(odd, near_one, any_below_two).astype(f"<u{size}").tobytes()


def model(seed: str, dtypes: tuple[str, ...] = DTYPES, count: int = 60) -> dict[str, Raw]:
    """One tensor of each dtype, and integers that are equal in all models."""
    tensors: dict[str, Raw] = {
        f"w{number}": (dtype, (3, count // 3), floats(dtype, count, f"{seed}{number}"))
        for number, dtype in enumerate(dtypes)
    }
    tensors["ids"] = ("I64", (2,), bytes([5, *bytes(7), 6, *bytes(7)]))
    tensors["mask"] = ("BOOL", (2, 2), bytes([1, 0, 0, 1]))
    return tensors


def save_model(path: str, seed: str, dtypes: tuple[str, ...] = DTYPES, count: int = 60) -> None:
    """The file of such a model."""
    save_raw(Path(path), model(seed, dtypes, count))
