"""Where the scale of a quantised tensor is: its tensor, and how many codes each value is for.

Rule 1: what a code stands for is code * value, exactly; both are floats of the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class CodeScale:
    """The scale of a tensor of codes, which is seen as a matrix of `shape[0]` rows."""

    tensor: str
    """Name of the tensor of the same checkpoint that holds the values, row by row."""
    block: tuple[int, int]
    """Rows and columns of codes that each value is for; the last blocks may be cut short."""


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix; a vector is one row."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))


def scale_grid(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the values that scale codes of this shape by such blocks."""
    rows, columns = matrix_shape(shape)
    return -(-rows // block[0]), -(-columns // block[1])
