"""How elements lie in memory and in blocks: what kernels are compiled for, as data.

Rule 1: every float travels as the integer of its bits; which format it is, a name says.
Rule 2: nothing here changes a number: a block is only how much one program does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

THREADS = 128

# bits of an element of each format, by the name that the safetensors format has for it
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E5M2": 8, "F8_E4M3": 8}

INTEGERS = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}

ALIGNMENT = 16
"""Bytes that a thread moves at once, and that addresses must be multiples of for it."""


class OutputFormat(NamedTuple):
    """An output format, as rounding needs it."""

    bits: int
    """Of an element."""
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
    """What a mean looks like, but for its rows and its weights."""

    groups: tuple[Group, ...]
    out: OutputFormat
    power: bool
    """Whether what the sum is divided by is a power of two."""
    bounded: bool
    """Whether every partial sum of products is a float64, whatever the elements are."""

    @property
    def block(self) -> int:
        """Elements of a block, the least that is proved or in doubt together."""
        return block_of(self.groups[0].format) if self.fused else block_of("F64")

    @property
    def fused(self) -> bool:
        """Whether one kernel sums and rounds, without sums in memory."""
        return len(self.groups) == 1

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(group.count for group in self.groups)


LOST, UNROUNDED = 1, 2
"""What is marked of a block: its sums could not hold the term; its means are not proved."""

SUM_BLOCK = 8 * THREADS
"""Elements of a block of kept sums, whatever is added to them."""


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """What an update of kept sums looks like."""

    format: str
    """Of the row that is added."""
    planes: int
    """How many float64 hold one sum: one, or two."""
    out: OutputFormat | None
    """The means' format; None where none are wanted."""
    power: bool
    """Whether what the sums are divided by is a power of two."""


def block_of(format: str) -> int:
    """Elements of one block of rows of `format`: 16 bytes or more for each thread."""
    return THREADS * max(8, 8 * ALIGNMENT // BITS[format])


def blocks_in(size: int, block: int) -> int:
    """How many blocks `size` elements take."""
    return -(-size // block)


def weight_table(weights: Sequence[int], total: int) -> list[float]:
    """What the kernels read: each weight, what their sum is divided by, and the inverse of that."""
    return [*map(float, weights), float(total), 1.0 / total]
