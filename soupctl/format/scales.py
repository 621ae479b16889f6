"""The place of a quantised tensor's scale: its tensor, and the block of codes for each value.

Rule 1: the value of a code is exactly code * scale; both are floats of the format.
"""

from __future__ import annotations

from math import prod

from ..frozen import frozen


@frozen
class CodeScale:
    """The scale of a tensor of codes, which is viewed as a matrix of `shape[0]` rows."""

    tensor: str
    """Name of the tensor of the same checkpoint that holds the values, row by row."""
    block: tuple[int, int]
    """Rows and columns of codes for each value of the scale; the last blocks may be cut short."""


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix; a vector is one row."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))


def scale_grid(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the scale for codes of this shape in blocks of that size."""
    rows, columns = matrix_shape(shape)
    return -(-rows // block[0]), -(-columns // block[1])
