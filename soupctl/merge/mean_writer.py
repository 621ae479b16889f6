"""The mean of one tensor for one order: computed and written chunk by chunk, and digested.

Rule 1: what depends on the order of chunks is in the record, which threads that make chunks of one
tensor share; all else is each thread's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..checkpoints.digest import Row, tensor_hasher
from ..engines.contract import Engine
from .chunks import PLANE_BYTES
from .code_writer import CodeWriter
from .kept_sum.format import SumForm
from .kept_sum.writer import PlaneWriter
from .order import Order
from .step import Step
from .weighted_sum import Mean, WeightedSum


class MeanRecord:
    """The digest of a mean, and its exact sum if that is kept, of chunks added in order."""

    def __init__(self, order: Order, step: Step, engine: Engine) -> None:
        assert step.out is not None
        self._step, self._out = step, step.out
        self._write = order.write
        self.codes: CodeWriter | None = None
        """Encodes the mean; None to write it as it is."""
        self._hasher = tensor_hasher()
        self.sum = None if order.sum is None else PlaneWriter(step, order.sum, engine)
        """Writes the exact sum; None if it is not kept."""

    def add(self, mean: memoryview) -> None:
        """Digest the mean of the next elements."""
        self._hasher.update(mean)

    def rows(self) -> list[Row]:
        """The rows of the mean, and of its scale, which is written now, for the soup's root."""
        step = self._step
        row = (step.name, self._out.value, step.shape, self._hasher.hexdigest())
        if self.codes is None:
            return [row]
        scale, data = self.codes.scale_row()
        self._write(scale[0], 0, memoryview(data))
        return [row, scale]

    def sum_rows(self) -> list[Row]:
        """The rows of the sum for its root; empty if it is not kept."""
        return [] if self.sum is None else self.sum.rows()

    @property
    def misfit(self) -> SumForm | None:
        """The form of the sum if another was expected, once its rows are known."""
        return None if self.sum is None else self.sum.misfit


class MeanWriter:
    """Computes and writes the chunks of a mean that one thread makes."""

    def __init__(
        self,
        order: Order,
        step: Step,
        record: MeanRecord,
        weighted: WeightedSum,
        combine: Mean | None,
        room: Sequence[memoryview],
    ) -> None:
        """`combine` takes the place of the mean; None for none.

        There is room for the mean of a chunk, and for a plane of its sum in F64 and in F32.
        """
        assert step.out is not None
        self._name = step.name
        self._width = step.out.bits // 8
        self._write = order.write
        self._weighted = weighted
        self._add = record.add
        self._sum = record.sum
        self._codes = record.codes
        self._out, self._plane, self._narrow = room
        self._planes = None if order.sum is None else weighted.prepare_planes()
        is_direct = record.codes is None and (order.sum is None or weighted.is_short)
        self._combine = (combine or weighted.prepare_mean()) if is_direct else None
        self._mean = memoryview(b"")
        self._summed: tuple[int, Sequence[memoryview], memoryview | None] = (0, (), None)

    def make(self, start: int, stop: int) -> int:
        """Compute and write elements `start` to `stop`, and return their bytes."""
        out = self._out[: (stop - start) * self._width]
        planes: Sequence[memoryview] = ()
        if self._planes is not None:
            first = self._plane[: (stop - start) * PLANE_BYTES]
            planes = [first, *self._planes(start, stop, first)]
        if self._sum is not None:
            self._summed = start, planes, self._sum.write(start, planes, self._narrow)
        if self._combine is not None:
            self._combine(start, stop, out)
        elif self._codes is None:
            self._weighted.round(planes, start, out)
        elif planes:
            self._codes.encode_planes(planes, start, out)
        else:
            self._codes.encode(start, stop, out)
        self._write(self._name, start * self._width, out)
        self._mean = out
        return len(out)

    def record(self) -> None:
        """Add the mean that was made last to the record, in order."""
        self._add(self._mean)

    def record_sum(self) -> None:
        """Add its exact sum, in order."""
        if self._sum is not None:
            self._sum.record(*self._summed)
