"""What every engine promises, whatever it runs on.

Rule 1: each output element is the exact real number sum(w_j * x_j) / W, rounded once, to nearest
even, to the output dtype; an exact zero is +0.0, what rounds to zero keeps its sign. W is the total
weight sum(w_j), or what the mean says.
Rule 2: what an engine cannot prove exact on its fast path it computes on a slower, exact one.
Rule 3: an engine reads views and fills views; it knows no file, no tensor name and no ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..format.dtypes import DType


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """One weighted mean: everything an engine must know beside the bytes."""

    dtypes: tuple[DType, ...]
    """Float dtype of each source, at least one."""
    weights: tuple[int, ...]
    """Integer weight of each source: none zero, |w| <= 2**24."""
    out: DType
    """Float dtype of the result."""
    allow_nonfinite: bool = False
    """Whether NaN and infinity follow IEEE rules instead of being refused."""
    divisor: int | None = None
    """What the weighted sum is divided by; None for the total weight."""

    @property
    def total(self) -> int:
        """What the weighted sum is divided by: 0 < W <= 2**24."""
        return sum(self.weights) if self.divisor is None else self.divisor


class Combine(Protocol):
    """A prepared mean; any number of threads may call it at once."""

    def __call__(self, start: int, stop: int, out: memoryview) -> None:
        """Write elements `start` to `stop` of the mean into `out`, which has exactly their size.

        Raises NonFinite or OutOfRange for the lowest failing element, and of that for the first
        source; `out` is then undefined. Raises ArithmeticError where the machine's arithmetic was
        set to another rounding.
        """


class Expand(Protocol):
    """A prepared sum; any number of threads may call it at once."""

    def __call__(self, start: int, stop: int, first: memoryview) -> list[memoryview]:
        """The exact weighted sums of elements `start` to `stop` as planes of float64, added up.

        Each plane holds the float64 nearest to what those before it leave of the sum. `first` has
        room for one, and is filled with the first; the others, none of which is all zero, are
        returned. Raises NonFinite or OutOfRange as `Combine` does; `first` is then undefined.
        """


class Engine(Protocol):
    """A way to compute means."""

    @property
    def name(self) -> str:
        """What a user calls it."""

    def prepare(self, mean: WeightedMean, sources: Sequence[memoryview]) -> Combine:
        """Make ready to combine `sources`: flat byte views of equal count and any alignment."""

    def prepare_sum(self, mean: WeightedMean, sources: Sequence[memoryview]) -> Expand:
        """Make ready to add up `sources` exactly; the mean's dtype and divisor play no part."""

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """Put the float64 elements of `plane` into `out` as float32; whether they are the same."""


class NonFinite(Exception):
    """A source element is NaN or infinite, and the mean does not allow it."""

    def __init__(self, source: int, element: int) -> None:
        super().__init__(f"source {source}, element {element}")
        self.source = source
        self.element = element


class OutOfRange(Exception):
    """The mean of finite values does not fit the output dtype."""

    def __init__(self, element: int) -> None:
        super().__init__(f"element {element}")
        self.element = element
