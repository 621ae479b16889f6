"""The weighted sum of one tensor over the sources of a plan: exactly, or rounded to the mean."""

from __future__ import annotations

from collections.abc import Sequence

from ..engines.contract import Combine, Engine, Expand, NonFinite, OutOfRange, WeightedMean
from ..engines.planes import SparseArray
from ..errors import LimitError, SoupError
from ..format.dtypes import DType
from .chunks import PLANE_BYTES
from .kept_sum.reader import Source, SumReader, Terms, invalid_sum
from .plan import Plan, Step
from .tensor_errors import nonfinite, out_of_range


class WeightedSum:
    """The sum of the terms of all sources of a step, each times its source's weight."""

    def __init__(
        self,
        plan: Plan,
        step: Step,
        engine: Engine,
        sources: Sequence[Source],
        terms: Sequence[Terms],
    ) -> None:
        """`sources` and their `terms` are in the order of the step's sources."""
        self._plan = plan
        self._step = step
        self._engine = engine
        self._owners: list[Source] = []
        """The source of each row that the engine is given: dense terms first, then sparse ones."""
        self._rows: list[tuple[memoryview, int]] = []
        """Bytes of each dense term, and bytes of its elements."""
        self._sparse: list[SparseArray] = []
        dtypes: list[DType] = []
        weights: list[int] = []
        for index, source, each in zip(step.sources, sources, terms, strict=True):
            for tensor, view in each.dense:
                self._owners.append(source)
                self._rows.append((view, tensor.dtype.bits // 8))
                dtypes.append(tensor.dtype)
                weights.append(plan.weights[index])
        for index, source, each in zip(step.sources, sources, terms, strict=True):
            for plane in each.sparse:
                self._owners.append(source)
                self._sparse.append(plane.plane)
                dtypes.append(DType.F64)
                weights.append(plan.weights[index])
        self._mean = WeightedMean(tuple(dtypes), tuple(weights), DType.F64, divisor=1)

    @property
    def is_dense(self) -> bool:
        """Whether no term is sparse, so that the mean takes no exact sum on the way."""
        return not self._sparse

    def prepare_mean(self) -> Combine:
        """What computes the mean of a dense sum in one pass.

        It raises InputError for NaN or infinity, and MismatchError for a mean that is out of range.
        """
        assert self._step.out is not None
        # a kept sum never holds NaN, whatever its ledger allows
        kept = any(isinstance(owner, SumReader) for owner in self._owners)
        spec = WeightedMean(
            self._mean.dtypes,
            self._mean.weights,
            self._step.out,
            self._plan.allow_nonfinite and not kept,
            self._plan.total,
        )
        combine = self._engine.prepare(spec, [view for view, _ in self._rows])

        def mean(start: int, stop: int, out: memoryview) -> None:
            try:
                combine(start, stop, out)
            except NonFinite as found:
                raise self._nonfinite(found.source, found.element) from None
            except OutOfRange as found:
                raise out_of_range(self._step, found.element) from None

        return mean

    def prepare_planes(self) -> Expand:
        """What computes the exact sum as planes of float64, the first and the others.

        It raises InputError for NaN or infinity, LimitError for a sum that float64 does not reach.
        """
        if self.is_dense:
            whole = self._engine.prepare_sum(self._mean, [view for view, _ in self._rows])

        def planes(start: int, stop: int, first: memoryview) -> list[memoryview]:
            try:
                if self.is_dense:
                    return whole(start, stop, first)
                rows = [view[start * width : stop * width] for view, width in self._rows]
                rows += [plane.dense(start, stop) for plane in self._sparse]
                return self._engine.prepare_sum(self._mean, rows)(0, stop - start, first)
            except NonFinite as found:
                element = found.element + (0 if self.is_dense else start)
                raise self._nonfinite(found.source, element) from None
            except OutOfRange:
                raise LimitError(
                    "its sum is beyond the range of F64",
                    tensor=self._step.name,
                    advice="without a kept sum, the soup is computed from its ingredients",
                ) from None

        return planes

    def round(self, planes: Sequence[memoryview], start: int, out: memoryview) -> None:
        """Round the exact sum in `planes`, of elements from `start` on, to the mean in `out`.

        Raises MismatchError for a mean that is out of range.
        """
        assert self._step.out is not None
        dtypes, weights = (DType.F64,) * len(planes), (1,) * len(planes)
        mean = WeightedMean(dtypes, weights, self._step.out, divisor=self._plan.total)
        try:
            self._engine.prepare(mean, planes)(0, len(planes[0]) // PLANE_BYTES, out)
        except OutOfRange as found:
            raise out_of_range(self._step, start + found.element) from None

    def _nonfinite(self, row: int, element: int) -> SoupError:
        """The error for NaN or infinity: in an ingredient, or in a kept sum, which has none."""
        owner = self._owners[row]
        if isinstance(owner, SumReader):
            return invalid_sum(owner.label, "it holds NaN or infinity", self._step.name)
        return nonfinite(owner.label, self._step.name, element)
