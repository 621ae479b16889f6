"""The values of the scales of a step's codes, laid out for an engine.

Rule 1: a value that an engine is given fits a float32, so that its product with a code and a short
weight is exact; a finer one is the sum of several such values.
"""

from __future__ import annotations

import ctypes
import math
import struct
from array import array
from collections.abc import Sequence
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING

from ..engines.contract import Scales
from ..errors import InputError, MismatchError
from ..format.dtypes import DType
from ..format.scales import CodeScale, matrix_shape, scale_grid
from ..frozen import frozen
from .kept_sum.reader import Source, copied_tensor
from .step import Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = 3
"""Values of 24 bits that make up one of 53."""
NAMES = {DType.F16: "<f2", DType.F32: "<f4", DType.F64: "<f8"}
UNQUANTISED = "average the unquantised weights"
FORMATS = {DType.F16: "<e", DType.F32: "<f", DType.F64: "<d"}


@frozen
class ScaleValues:
    """The scale of one source: the block of codes for each value, and the values."""

    block: tuple[int, int]
    data: bytes
    """The bytes of the scale's tensor."""
    dtype: DType
    label: str
    """The name of the source in messages."""
    tensor: str


def read_scales(step: Step, sources: Sequence[Source]) -> tuple[ScaleValues | None, ...]:
    """The scale of each source of a step; empty if no source has one."""
    pairs = zip(step.scales, sources, strict=True) if step.scales else ()
    return tuple(None if scale is None else read_scale(scale, source) for scale, source in pairs)


def read_scale(scale: CodeScale, source: Source) -> ScaleValues:
    """The scale of one tensor of codes of a source."""
    stored = copied_tensor(source, scale.tensor)
    data, tensor = bytes(stored.read()), stored.tensor
    return ScaleValues(scale.block, data, tensor.dtype, source.label, tensor.name)


def split_scale(scale: ScaleValues | None) -> tuple[ScaleValues | None, ...]:
    """Scales that add up to one, whose values fit a float32; itself if there are none."""
    if scale is None or scale.dtype is not DType.F64:
        return (scale,)
    rest = array("d", scale.data)
    parts: list[ScaleValues] = []
    while any(rest):
        if len(parts) == PARTS:
            # not finite, or beyond the range of float32: refused when it is laid out
            return (scale,)
        part = array("f", rest)
        rest = array("d", map(float.__sub__, rest, part))
        parts.append(replace(scale, data=part.tobytes(), dtype=DType.F32))
    return tuple(parts) or (scale,)


def lay_out_scales(shape: tuple[int, ...], scales: Sequence[ScaleValues | None]) -> Scales | None:
    """The factors of a tensor's sources, None for one without a scale, by their common blocks.

    None if no source has a scale. Raises InputError for NaN or infinity, and MismatchError for a
    value that no float32 is, or a dtype that no scale should have.
    """
    if not any(scales):
        return None
    rows, columns = (max(1, size) for size in matrix_shape(shape))
    blocks = [each.block for each in scales if each is not None]
    if all(high >= rows and wide >= columns for high, wide in blocks):
        # importing numpy takes longer than many a merge of tensors with one scale each
        single = [1.0 if each is None else _single_value(each) for each in scales]
        return Scales(columns, (rows, columns), memoryview(array("d", single)))
    import numpy as np

    # blocks that cover the whole row need no common divisor
    height = gcd(*(high for high, _ in blocks if high < rows)) or rows
    width = gcd(*(wide for _, wide in blocks if wide < columns)) or columns
    tops, lefts = np.arange(0, rows, height), np.arange(0, columns, width)
    factors = np.ones((tops.size, lefts.size, len(scales)))
    for source, each in enumerate(scales):
        if each is not None:
            grid = _values(each).reshape(scale_grid((rows, columns), each.block))
            factors[:, :, source] = grid[tops // each.block[0]][:, lefts // each.block[1]]
    return Scales(columns, (height, width), factors.reshape(-1).data)


def _single_value(scale: ScaleValues) -> float:
    """The only value of a scale; see `_values`."""
    if scale.dtype is DType.BF16:
        (value,) = struct.unpack("<f", bytes(2) + scale.data)
    elif scale.dtype in FORMATS:
        (value,) = struct.unpack(FORMATS[scale.dtype], scale.data)
    else:
        raise _unsupported(scale)
    if not math.isfinite(value):
        raise _nonfinite(scale, 0)
    if ctypes.c_float(value).value != value:
        raise _too_fine(scale, 0)
    return float(value)


def _nonfinite(scale: ScaleValues, element: int) -> InputError:
    """A scale makes its codes NaN or infinite; no option allows that."""
    what = f"holds NaN or infinity (element {element}), and is the scale of a weight"
    return InputError(
        what, path=scale.label, tensor=scale.tensor, advice="download or quantise the model again"
    )


def _unsupported(scale: ScaleValues) -> MismatchError:
    what = f"is a scale of dtype {scale.dtype.value}, which is not supported"
    return MismatchError(what, path=scale.label, tensor=scale.tensor, advice=UNQUANTISED)


def _too_fine(scale: ScaleValues, element: int) -> MismatchError:
    what = f"is a scale beyond the range of F32 (element {element})"
    return MismatchError(what, path=scale.label, tensor=scale.tensor, advice=UNQUANTISED)


def _values(scale: ScaleValues) -> NDArray[np.float64]:
    """The values as float64, checked to be finite and to fit a float32."""
    import numpy as np

    if scale.dtype is DType.BF16:
        words = np.frombuffer(scale.data, "<u2").astype(np.uint32) << 16
        values = words.view(np.float32).astype(np.float64)
    elif scale.dtype in NAMES:
        values = np.frombuffer(scale.data, NAMES[scale.dtype]).astype(np.float64)
    else:
        raise _unsupported(scale)
    if (odd := np.flatnonzero(~np.isfinite(values))).size:
        raise _nonfinite(scale, int(odd[0]))
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32).astype(np.float64)
    if (fine := np.flatnonzero(single != values)).size:
        raise _too_fine(scale, int(fine[0]))
    return values
