"""Reading tensors of two checkpoints as numbers, to compare them.

Rule 1: codes with a scale count as the numbers that they represent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...engines.contract import WeightedMean
from ...format.dtypes import DType, Kind
from ...kinds.kind import TensorKind
from ..kept_sum.reader import Source, copied_tensor
from ..scale_values import lay_out_scales, read_scale, split_scale

if TYPE_CHECKING:
    from ...engines.comparison import Floats


class ValueReader:
    """Reads one tensor of a checkpoint, as bytes and as float64."""

    def __init__(self, source: Source, name: str, kind: TensorKind) -> None:
        """Raise MismatchError for a scale that cannot be read exactly."""
        self._stored = copied_tensor(source, name)
        self.tensor = self._stored.tensor
        self._scales = None
        self._parts = 1
        if kind.scale is not None:
            parts = split_scale(read_scale(kind.scale, source))
            self._scales = lay_out_scales(self.tensor.shape, parts)
            self._parts = len(parts)

    @property
    def is_float(self) -> bool:
        """Whether its elements are floating-point numbers."""
        return self.tensor.dtype.kind is Kind.FLOAT

    def bytes_of(self, elements: int) -> int:
        """The bytes of so many elements, counted from a byte's beginning."""
        return -(-elements * self.tensor.dtype.bits // 8)

    def read(self, start: int, stop: int, buffer: memoryview) -> memoryview:
        """The bytes of elements `start` to `stop`, read into the beginning of `buffer`."""
        first, last = self.bytes_of(start), self.bytes_of(stop)
        raw = buffer[: last - first]
        self._stored.read_into(raw, first)
        return raw

    def floats(self, raw: memoryview, start: int) -> tuple[memoryview, DType]:
        """Bytes that were read from element `start` on as floats, with their dtype."""
        if self._scales is None:
            return raw, self.tensor.dtype
        return self.values(raw, start).data.cast("B"), DType.F64

    def values(self, raw: memoryview, start: int) -> Floats:
        """The numbers of bytes that were read from element `start` on, rounded to F64 at most."""
        import numpy as np

        from ...engines.cpu import CpuEngine

        dtype = self.tensor.dtype
        out = np.empty(len(raw) * 8 // dtype.bits)
        dtypes, weights = (dtype,) * self._parts, (1,) * self._parts
        product = WeightedMean(dtypes, weights, DType.F64, allow_nonfinite=True, divisor=1)
        combine = CpuEngine().prepare(product, [raw] * self._parts, self._scales)
        combine(0, len(out), out.data.cast("B"), start)
        return out

    def whole(self) -> Floats:
        """All its numbers."""
        from ...engines.update_mean import widened

        raw = memoryview(self._stored.read())
        return widened(raw, self.tensor.dtype) if self._scales is None else self.values(raw, 0)
