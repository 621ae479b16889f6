"""Writing the exact mean of a tensor as float8 codes and one scale.

Rule 1: the scale is the float32 nearest to the largest mean over the largest code; each code is the
one nearest to mean over scale, as real numbers, of two the even one.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Sequence

from ..checkpoints.digest import Row, tensor_hasher
from ..engines.contract import CodeSums
from ..errors import MismatchError, OutputError
from .code_error import CodeError
from .quantised_steps import CODES, SCALES, scale_name
from .weighted_sum import WeightedSum

LARGEST = float(CODES.float_format.largest)
SMALLEST_SCALE = 2.0**-126
"""The smallest normal float32: devices flush smaller ones to zero."""


def scale_of(largest: float, tensor: str) -> float:
    """The scale of a tensor by its largest mean; 1 for a tensor of zeros.

    Raises MismatchError for a mean that no scale brings into range.
    """
    # converted by the C library, to nearest even
    scale = ctypes.c_float(largest / LARGEST).value if largest else 1.0
    if math.isinf(scale):
        what = f"its largest mean, {largest:g}, is too large for float8 with a scale"
        raise MismatchError(what, tensor=tensor, advice=f"--dtype-for '{tensor}=f64' keeps it")
    return max(scale, SMALLEST_SCALE)


class CodeWriter:
    """Encodes the chunks of one tensor, and adds up the error."""

    def __init__(self, weighted: WeightedSum, tensor: str, largest: float) -> None:
        """`largest` is the largest magnitude of the tensor's means."""
        self._weighted, self._tensor = weighted, tensor
        self._largest, self._scale = largest, scale_of(largest, tensor)
        self._encode = weighted.prepare_codes(self._scale)
        self._found = 0.0
        self._squares = self._means = 0.0

    def encode(self, start: int, stop: int, out: memoryview) -> None:
        """Write the codes of elements `start` to `stop`, whose terms were just read, to `out`."""
        self._add(self._encode(start, stop, out))

    def encode_planes(self, planes: Sequence[memoryview], start: int, out: memoryview) -> None:
        """Write the codes of the exact sums in `planes`, of elements from `start` on, to `out`."""
        self._add(self._weighted.encode(planes, start, out, self._scale))

    def _add(self, made: CodeSums) -> None:
        self._found = max(self._found, made.largest)
        if self._found > self._largest:
            raise self._changed()
        self._squares += made.squares
        self._means += made.means

    def _changed(self) -> OutputError:
        return OutputError("an input was changed while it was read", tensor=self._tensor)

    def scale_row(self) -> tuple[Row, bytes]:
        """The scale's row for the root of the soup, and its bytes."""
        if self._found != self._largest:
            raise self._changed()
        data = struct.pack("<f", self._scale)
        hasher = tensor_hasher()
        hasher.update(data)
        return (scale_name(self._tensor), SCALES.value, (), hasher.hexdigest()), data

    def error(self) -> CodeError:
        """The quantisation error so far."""
        made = CodeError(1, self._squares, self._means, 0.0, self._tensor)
        return CodeError(1, self._squares, self._means, made.relative, self._tensor)
