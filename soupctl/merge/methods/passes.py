"""Combining one tensor by a method: its rows as float64, surveys, and the result, rounded once.

Rule 1: rows are read in blocks that the method chooses, so that neither the chunk nor the number of
threads changes a bit.
Rule 2: a source's values are exact in float64, but for scaled codes, which are rounded to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import gcd

import numpy as np

from ...engines.contract import Engine, NonFinite, OutOfRange, WeightedMean
from ...errors import MismatchError
from ...format.dtypes import DType
from ...frozen import frozen
from ...methods.combinations import combination_of
from ...methods.contract import Combination, Values
from ...methods.settings import MergedTensor, MethodSettings
from ...workers import Advance, Scratch
from ..chunks import PLANE_BYTES, ranges
from ..plan import Plan
from ..scale_values import ScaleValues
from ..step import Step
from ..step_weights import ALONE, StepWeights
from ..tensor_errors import out_of_range
from ..terms import Term, allot
from ..weighted_sum import Mean, Summand, WeightedSum

Rows = Callable[[int, int], list[Values]]
"""The values of a range of elements, which the terms have just read, in each source."""


@frozen
class TensorWork:
    """A tensor that a method combines."""

    plan: Plan
    step: Step
    engine: Engine
    scratch: Scratch
    terms: Callable[[], list[list[Term]]]
    """Opens the terms of each source anew."""
    scales: Sequence[ScaleValues | None]

    def surveyed(self, method: MethodSettings, advance: Advance) -> SurveyedTensor:
        """How the method combines the tensor, after all its surveys.

        Raises MismatchError for values whose products are beyond the range of float64.
        """
        tensor = MergedTensor(self.step.name, self.step.shape)
        combination = combination_of(method, tensor)
        while combination.needs_survey:
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    self._survey(combination, tensor, advance)
            except OverflowError:
                what = f"has values too large for {method.method}, which multiplies them in float64"
                advice = "use another method, such as ties"
                raise MismatchError(what, tensor=tensor.name, advice=advice) from None
        return SurveyedTensor(self, combination)

    def _survey(self, combination: Combination, tensor: MergedTensor, advance: Advance) -> None:
        """Show all blocks of the tensor once."""
        terms = self.terms()
        every = [term for each in terms for term in each]
        chunk = min(tensor.count, combination.block)
        allot(self.scratch, every, chunk)
        rows = self.bound(terms).rows(chunk)
        for start, stop in ranges(tensor.count, chunk):
            for term in every:
                term.read(start, stop)
            combination.survey(rows(start, stop))
            # a survey is not counted, but it ends if another thread has failed
            advance(0)
        combination.end_survey()

    def bound(self, terms: Sequence[Sequence[Term]]) -> MethodPass:
        """The pass that reads these terms."""
        return MethodPass(self.plan, self.step, self.engine, terms, self.scales)


@frozen
class SurveyedTensor:
    """A tensor with the way in which a method combines it, all surveys done."""

    work: TensorWork
    combination: Combination

    @property
    def block(self) -> int:
        """Elements to combine at once."""
        return self.combination.block

    @property
    def ratio(self) -> Fraction | None:
        """The ratio that the method has found, if it finds one."""
        return self.combination.ratio

    def prepare(self, terms: Sequence[Sequence[Term]]) -> Mean:
        """A function that writes the result of what the terms have just read."""
        return self.work.bound(terms).prepare(self.combination)


class MethodPass:
    """The pass over one tensor that a method combines, bound to the terms of its sources."""

    def __init__(
        self,
        plan: Plan,
        step: Step,
        engine: Engine,
        terms: Sequence[Sequence[Summand]],
        scales: Sequence[ScaleValues | None],
    ) -> None:
        """`terms` and `scales` are those of each source, in the order of the step's sources."""
        self._plan = plan
        self._step = step
        self._engine = engine
        self._terms = terms
        self._scales = scales or (None,) * len(terms)

    def rows(self, block: int) -> Rows:
        """A function that gives at most `block` values of each source; each call reuses memory.

        It raises InputError for NaN or infinity.
        """
        found = [np.empty(block) for _ in self._terms]
        readers = [self._reader(place) for place in range(len(self._terms))]

        def rows(start: int, stop: int) -> list[Values]:
            values = [each[: stop - start] for each in found]
            for read, each in zip(readers, values, strict=True):
                read(start, stop, each.data.cast("B"))
            return values

        return rows

    def _reader(self, place: int) -> Mean:
        """Reads one source as float64: the mean of it alone."""
        scale = self._scales[place]
        alone = replace(
            self._step,
            sources=self._step.sources[place : place + 1],
            dtypes=self._step.dtypes[place : place + 1],
            out=DType.F64,
            weights=ALONE,
            scales=(),
        )
        own = () if scale is None else (scale,)
        terms = [self._terms[place]]
        return WeightedSum(self._plan, alone, self._engine, terms, own).prepare_mean()

    def prepare(self, combination: Combination) -> Mean:
        """A function that writes the result of a range of elements, after all surveys."""
        exact = combination.exact_weights()
        return self._combined(combination) if exact is None else self._exact(*exact)

    def _exact(self, weights: Sequence[int], divisor: int) -> Mean:
        shared = gcd(divisor, *weights)
        whole = StepWeights(tuple(each // shared for each in weights), divisor // shared)
        step = replace(self._step, weights=whole)
        return WeightedSum(self._plan, step, self._engine, self._terms, self._scales).prepare_mean()

    def _combined(self, combination: Combination) -> Mean:
        rows, step = self.rows(combination.block), self._step
        assert step.out is not None
        spec = WeightedMean((DType.F64,), (1,), step.out, divisor=1)

        def combined(start: int, stop: int, out: memoryview) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                result = np.ascontiguousarray(combination.combine(rows(start, stop)))
            plane = result.data.cast("B")
            assert len(plane) == (stop - start) * PLANE_BYTES
            try:
                self._engine.prepare(spec, [plane])(0, stop - start, out)
            except (NonFinite, OutOfRange) as found:
                raise out_of_range(step, start + found.element) from None

        return combined
