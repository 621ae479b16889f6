"""Compile-time configurations of the GPU kernels: formats, groups of rows and blocks.

Rule 1: floats are passed as integers of their bits, with the name of their format.
Rule 2: nothing here affects a result: a block is only the work of one program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

THREADS = 128

# bits of an element by the name of its dtype in the safetensors format
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E5M2": 8, "F8_E4M3": 8}

INTEGERS = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}

ALIGNMENT = 16
"""Bytes that a thread moves at once; addresses must be multiples of it."""


class OutputFormat(NamedTuple):
    """The rounding parameters of an output format."""

    bits: int
    """Bits per element."""
    precision: int
    """Bits of the significand, the hidden one included."""
    normal: int
    """The float64 bits of the smallest normal value."""
    limit: int
    """The float64 bits of the largest float64 that rounds into range."""
    sign: int
    """The sign bit, and all above it."""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring rows of one format."""

    format: str
    count: int


@dataclass(frozen=True, slots=True)
class MeanConfig:
    """The configuration of a mean: all but its rows and weights."""

    groups: tuple[Group, ...]
    out: OutputFormat
    power: bool
    """Whether the divisor of the sum is a power of two."""
    wide: bool
    """Whether the divisor may exceed 2**24."""
    bounded: bool
    """Whether every partial sum of products is a float64, whatever the elements are."""

    @property
    def block(self) -> int:
        """Elements per block; a block is proved, or in doubt, as a whole."""
        return block_of(self.groups[0].format) if self.fused else block_of("F64")

    @property
    def fused(self) -> bool:
        """Whether one kernel sums and rounds, without sums in memory."""
        return len(self.groups) == 1

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(group.count for group in self.groups)


LOST, UNROUNDED = 1, 2
"""Marks of a block: its sums cannot hold the new term exactly; its means are not proved."""

SUM_BLOCK = 8 * THREADS
"""Elements of a block of kept sums, whatever is added to them."""


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """The configuration of an update of kept sums."""

    format: str
    """Format of the row that is added."""
    planes: int
    """Number of float64 values per sum: one or two."""
    out: OutputFormat | None
    """Format of the means; None if none are wanted."""
    power: bool
    """Whether the divisor of the sums is a power of two."""
    wide: bool = False
    """Whether the divisor may exceed 2**24."""
    terms: int = 1
    """Number of weights that the row is added with, one after the other."""


def block_of(format: str) -> int:
    """Elements of one block of rows of `format`: 16 bytes or more for each thread."""
    return THREADS * max(8, 8 * ALIGNMENT // BITS[format])


def blocks_in(size: int, block: int) -> int:
    """Number of blocks of `size` elements."""
    return -(-size // block)


DIVISOR_LENGTH = 3
"""Numbers that follow the weights in their table."""


def weight_table(weights: Sequence[int], total: int) -> list[float]:
    """The table that kernels read: weights, divisor, its inverse, what its float64 leaves out."""
    return [*map(float, weights), float(total), 1.0 / total, float(total - int(float(total)))]
