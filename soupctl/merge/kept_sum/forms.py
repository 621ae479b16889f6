"""The form of the sum of a tensor, found from all its elements, or expected from some of them.

Rule 1: what is expected of a sum changes only how often its sources are read: a sum that turns out
to have another form is written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...engines.contract import Engine
from ...engines.planes import count_present, most_significant_bits
from ...errors import LimitError
from ...format.dtypes import DType
from ...frozen import frozen
from .format import MOST_PLANES, NO_SUM, SumForm

SAMPLE = 1 << 12
"""Elements of a tensor from which the form of its sum is expected."""
SINGLE_BITS = DType.F32.float_format.precision
GROWTH = 2
"""How much larger than in the sample the largest sum may be elsewhere."""


@frozen
class SumForms:
    """The form of the sum of each averaged tensor."""

    of: Mapping[str, SumForm]
    expected: frozenset[str] = frozenset()
    """The tensors whose forms are only expected."""


class FormFinder:
    """Finds the form of the sum of one tensor, chunk by chunk."""

    def __init__(self, name: str, engine: Engine) -> None:
        self._name = name
        self._engine = engine
        self._is_single = True
        self._rest: list[int] = []

    def add(self, planes: Sequence[memoryview], narrowed: memoryview) -> None:
        """Add the planes of a chunk; `narrowed` takes them as F32, if that holds all so far."""
        first, *others = planes
        # once a sum is known not to fit one plane, its range is not needed
        is_single = self._is_single and not others and self._engine.narrow(first, narrowed)
        self.add_narrowed(planes, is_single)

    def add_narrowed(self, planes: Sequence[memoryview], is_single: bool) -> None:
        """Add the planes of a chunk of which it is known whether one plane of F32 holds it.

        That need not be true once another chunk is known not to fit.
        """
        others = planes[1:]
        self._is_single = self._is_single and is_single
        self._rest += [0] * (len(others) - len(self._rest))
        for index, other in enumerate(others):
            self._rest[index] += count_present(other)

    def may_be(self, first: DType) -> bool:
        """Whether the first plane may still be of that dtype."""
        return self._is_single or first is not DType.F32

    def form(self) -> SumForm:
        """The form that holds all that was added; LimitError for a sum that cannot be kept."""
        if len(self._rest) >= MOST_PLANES:
            problem = f"its sum takes more than {MOST_PLANES} planes of F64 and cannot be kept"
            raise LimitError(problem, tensor=self._name, advice=NO_SUM)
        return SumForm(DType.F32 if self._is_single else DType.F64, tuple(self._rest))


def expected_form(sample: memoryview, count: int, dtypes: Sequence[DType]) -> SumForm | None:
    """The likely form of a sum of `count` elements in one plane; None if that is uncertain.

    It is judged by the first of them.

    `dtypes` are those of the terms, whose weights are whole numbers.
    """
    values = sample.cast("B").cast("d")
    quantum = min(dtype.float_format.quantum for dtype in dtypes)
    # all sums are multiples of the quantum, so small ones fit; usual weights of F16 do
    if max(map(abs, values)) * GROWTH <= 2.0 ** (SINGLE_BITS + quantum):
        return SumForm(DType.F32)
    bits = most_significant_bits(sample)
    # each further bit that a sum needs is about half as frequent
    rarer = (count // SAMPLE).bit_length()
    if bits + rarer <= SINGLE_BITS:
        return SumForm(DType.F32)
    return SumForm(DType.F64) if bits > SINGLE_BITS else None
