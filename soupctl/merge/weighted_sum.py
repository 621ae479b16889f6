"""The weighted sum of one tensor over the sources of a plan: exactly, or rounded to the mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from ..engines.contract import (
    CodeSums,
    Combine,
    Engine,
    Expand,
    NonFinite,
    OutOfRange,
    WeightedMean,
)
from ..errors import LimitError, SoupError
from ..format.dtypes import DType
from .chunks import PLANE_BYTES
from .exact_quotient import divided
from .kept_sum.reader import Source, SumReader, invalid_sum
from .plan import Plan
from .scale_values import ScaleValues, lay_out_scales, split_scale
from .step import Step
from .tensor_errors import nonfinite, out_of_range
from .updates import WeightedUpdate, prepare_updated, prepare_updated_sum

Mean = Callable[[int, int, memoryview], None]
"""Writes the mean of a range of elements, which the terms have just read."""
Codes = Callable[[int, int, memoryview], CodeSums]
"""Writes the codes of a range of elements."""
Planes = Callable[[int, int, memoryview], list[memoryview]]
"""Fills the first plane of their exact sum, and returns the others."""


SHORT = 128
"""Most bits of the terms of an element whose mean is not rounded from their exact sum."""


class Summand(Protocol):
    """A term of a weighted sum, which has been read."""

    @property
    def source(self) -> Source:
        """The source that it is of."""

    @property
    def dtype(self) -> DType:
        """The dtype of its elements."""

    @property
    def row(self) -> memoryview:
        """Its elements."""

    @property
    def own_weight(self) -> int | None:
        """Its weight if that is not its source's."""


class WeightedSum:
    """The sum of the terms of the sources that count, each times its source's weight.

    It is computed from the chunk that the terms have read last.
    """

    def __init__(
        self,
        plan: Plan,
        step: Step,
        engine: Engine,
        terms: Sequence[Sequence[Summand]],
        scales: Sequence[ScaleValues | None] = (),
        updates: Sequence[WeightedUpdate] = (),
    ) -> None:
        """`terms` and `scales` are those of each source, in the order of the step's sources.

        Raises InputError and MismatchError for scales that cannot be used.
        """
        self._plan = plan
        self._step = step
        self._engine = engine
        # a row counts once for each part of its scale
        own_scales = scales or (None,) * len(terms)
        weighted = [
            (term, weight if term.own_weight is None else term.own_weight, part)
            for weight, each, scale in zip(step.weights.whole, terms, own_scales, strict=True)
            if weight
            for term in each
            if term.own_weight != 0
            for part in split_scale(scale)
        ]
        self._owners: list[Source] = [term.source for term, *_ in weighted]
        """The source of each row that the engine is given."""
        self._rows = [term.row for term, *_ in weighted]
        dtypes = tuple(term.dtype for term, *_ in weighted)
        weights = tuple(weight for _, weight, _ in weighted)
        self._mean = WeightedMean(dtypes, weights, DType.F64, divisor=1)
        self._updates = updates
        self._scales = lay_out_scales(step.shape, [part for *_, part in weighted])

    @property
    def is_short(self) -> bool:
        """Whether the mean is sooner computed from the terms than rounded from their exact sum.

        Measured: means of 8 terms in 16 bits, or of 4 in 32, take as long as rounding a float64.
        """
        dtypes = self._mean.dtypes
        is_short = sum(dtype.bits for dtype in dtypes) <= SHORT
        return is_short and DType.F64 not in dtypes and not self._updates

    def _spec(self) -> WeightedMean:
        assert self._step.out is not None
        divisor = self._step.weights.divisor
        return replace(self._mean, out=self._step.out, divisor=divisor)

    def prepare_mean(self) -> Mean:
        """A function that computes the mean in one pass.

        It raises InputError for NaN or infinity, and MismatchError for a mean that is out of range.
        """
        # a kept sum never holds NaN, whatever its ledger allows
        kept = any(isinstance(owner, SumReader) for owner in self._owners)
        spec = replace(self._spec(), allow_nonfinite=self._plan.allow_nonfinite and not kept)
        if self._updates:
            combine: Combine = prepare_updated(spec, self._rows, self._updates, self._step.shape)
        else:
            combine = self._engine.prepare(spec, self._rows, self._scales)

        def mean(start: int, stop: int, out: memoryview) -> None:
            with self._naming(start):
                combine(0, stop - start, out, start)

        return mean

    def prepare_largest(self) -> Callable[[int, int], float]:
        """A function that finds the largest magnitude of the means, each rounded to F64.

        It raises as that of `prepare_mean`.
        """
        find = self._engine.prepare_largest(self._spec(), self._rows, self._scales)

        def largest(start: int, stop: int) -> float:
            with self._naming(start):
                return find(0, stop - start, start)

        return largest

    def prepare_codes(self, scale: float) -> Codes:
        """A function that writes the mean as codes in one pass; see `prepare_mean`."""
        quantise = self._engine.prepare_codes(self._spec(), scale, self._rows, self._scales)

        def codes(start: int, stop: int, out: memoryview) -> CodeSums:
            with self._naming(start):
                return quantise(0, stop - start, out, start)

        return codes

    @contextmanager
    def _naming(self, start: int) -> Iterator[None]:
        """Name the tensor in an engine's error; elements count from `start`."""
        try:
            yield
        except NonFinite as found:
            raise self._nonfinite(found.source, start + found.element) from None
        except OutOfRange as found:
            raise out_of_range(self._step, start + found.element) from None

    def prepare_planes(self) -> Planes:
        """A function that computes the exact sum as planes of float64: the first, and the others.

        It applies the divisor of the step's weights. It raises InputError for NaN or infinity,
        LimitError for a sum beyond float64, LedgerError for one that cannot be divided.
        """
        shrink = self._step.weights.shrink
        expand: Expand
        if self._updates:
            which = self._mean, self._rows, self._updates, self._step.shape
            expand = prepare_updated_sum(*which, self._engine)
        else:
            expand = self._engine.prepare_sum(self._mean, self._rows, self._scales)

        def planes(start: int, stop: int, first: memoryview) -> list[memoryview]:
            try:
                return expand(0, stop - start, first, start)
            except NonFinite as found:
                raise self._nonfinite(found.source, start + found.element) from None
            except OutOfRange:
                raise LimitError(
                    "its sum is beyond the range of F64",
                    tensor=self._step.name,
                    advice="without a kept sum, the soup is computed from its ingredients",
                ) from None

        def smaller(start: int, stop: int, first: memoryview) -> list[memoryview]:
            found = [first, *planes(start, stop, first)]
            quotient = divided(found, shrink, self._engine)
            if quotient is None:
                what = f"its values are not the multiples of {shrink} that its scale makes them"
                raise invalid_sum(self._sum_label(), what, self._step.name)
            first[:] = quotient[0]
            return quotient[1:]

        return planes if shrink == 1 else smaller

    def _sum_label(self) -> str:
        return next(each.label for each in self._owners if isinstance(each, SumReader))

    def round(self, planes: Sequence[memoryview], start: int, out: memoryview) -> None:
        """Round the exact sum in `planes`, of elements from `start` on, to the mean in `out`.

        Raises MismatchError for a mean that is out of range.
        """
        mean = self._of_planes(planes)
        with self._naming(start):
            self._engine.prepare(mean, planes)(0, len(planes[0]) // PLANE_BYTES, out)

    def encode(
        self, planes: Sequence[memoryview], start: int, out: memoryview, scale: float
    ) -> CodeSums:
        """Write the mean of the exact sum in `planes` as codes; see `round`."""
        quantise = self._engine.prepare_codes(self._of_planes(planes), scale, planes)
        with self._naming(start):
            return quantise(0, len(planes[0]) // PLANE_BYTES, out)

    def _of_planes(self, planes: Sequence[memoryview]) -> WeightedMean:
        assert self._step.out is not None
        divisor = self._step.weights.divisor // self._step.weights.shrink
        dtypes, weights = (DType.F64,) * len(planes), (1,) * len(planes)
        return WeightedMean(dtypes, weights, self._step.out, divisor=divisor)

    def _nonfinite(self, row: int, element: int) -> SoupError:
        """The error for NaN or infinity: in an ingredient, or in a kept sum, which has none."""
        owner = self._owners[row]
        if isinstance(owner, SumReader):
            return invalid_sum(owner.label, "it holds NaN or infinity", self._step.name)
        may_allow = self._plan.method is None
        return nonfinite(owner.label, self._step.name, element, may_allow=may_allow)
