"""The contract of every engine, on any device.

Rule 1: each output element is the exact real number sum(w_j * s_j * x_j) / W, rounded once, to
nearest even, to the output dtype; an exact zero is +0.0, what rounds to zero keeps its sign. W is
the total weight sum(w_j), or the divisor of the mean; s_j is the scale of x_j, 1 if it has none.
Rule 2: elements that an engine cannot prove exact on its fast path go through a slower, exact one.
Rule 3: an engine reads and fills memory views; it knows no files, tensor names or ledgers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..format.dtypes import DType
from ..frozen import frozen


@frozen
class WeightedMean:
    """A weighted mean, or sum, without its data: dtypes, weights and output format."""

    dtypes: tuple[DType, ...]
    """Float dtype of each source, at least one."""
    weights: tuple[int, ...]
    """Integer weight of each source, |w| <= 2**62; with weight 0, only NaN and infinity matter."""
    out: DType
    """Float dtype of the result."""
    allow_nonfinite: bool = False
    """True to propagate NaN and infinity by IEEE rules, False to refuse them."""
    divisor: int | None = None
    """Divisor of the weighted sum; None for the total weight."""

    @property
    def total(self) -> int:
        """Divisor of the weighted sum: 0 < W <= 2**62."""
        return sum(self.weights) if self.divisor is None else self.divisor


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """Factors of the elements of float8 sources, on a grid of blocks of the tensor as a matrix."""

    columns: int
    """Elements in a row of the matrix."""
    block: tuple[int, int]
    """Rows and columns of a block; the last ones may be cut short."""
    factors: memoryview
    """Float64 [blocks, sources]: the factor of each source in each block, by rows of blocks.

    Each is finite and a float32 at most; those of a source without a scale are 1.
    """

    @property
    def across(self) -> int:
        """Number of blocks beside each other."""
        return -(-self.columns // self.block[1])

    def block_of(self, element: int) -> int:
        """The index of the block that an element is in."""
        row, column = divmod(element, self.columns)
        return row // self.block[0] * self.across + column // self.block[1]


class Combine(Protocol):
    """A mean bound to its sources; may be called from several threads at once."""

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> None:
        """Write elements `start` to `stop` of the mean into `out`, a view of exactly their bytes.

        The first element of the sources is element `origin` of the scaled tensor. Raises NonFinite
        or OutOfRange for the lowest failing element and its first failing source; `out` is then
        undefined. Raises ArithmeticError if this thread's floating-point mode is not the default.
        """


class Expand(Protocol):
    """A sum bound to its sources; may be called from several threads at once."""

    def __call__(
        self, start: int, stop: int, first: memoryview, origin: int = 0
    ) -> list[memoryview]:
        """The exact weighted sums of elements `start` to `stop`, as planes of float64 that add up.

        Each plane holds the float64 nearest to the remainder after those before it. The first is
        written into `first`; the others, none of which is all zero, are returned. Raises NonFinite
        or OutOfRange as `Combine` does; `first` is then undefined.
        """


@frozen
class CodeSums:
    """What the codes of some elements were made of, and how far they are off."""

    largest: float
    """The largest magnitude of a mean, rounded to F64."""
    squares: float
    """The sum of the squares of the errors of codes times scale, to a dozen digits."""
    means: float
    """The sum of the squares of the means, likewise."""


class Largest(Protocol):
    """A mean bound to its sources; may be called from several threads at once."""

    def __call__(self, start: int, stop: int, origin: int = 0) -> float:
        """The largest magnitude of elements `start` to `stop` of the mean, each rounded to F64.

        Raises as `Combine` does.
        """


class Quantise(Protocol):
    """A mean bound to its sources, and a scale; may be called from several threads at once."""

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> CodeSums:
        """Write the codes of elements `start` to `stop` into `out`, a view of exactly their bytes.

        Each is the mean over the scale as a real number, rounded once, to nearest even, to the
        mean's dtype. Raises as `Combine` does.
        """


class Engine(Protocol):
    """Computes exact means and sums."""

    @property
    def name(self) -> str:
        """Its name for users."""

    def prepare(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Combine:
        """Bind a mean to `sources`: flat byte views of equally many elements, of any alignment."""

    def prepare_sum(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Expand:
        """Bind an exact sum to `sources`; the mean's output dtype and divisor are not used."""

    def prepare_largest(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Largest:
        """Bind the search for the largest mean to `sources`; nonfinite ones are refused."""

    def prepare_codes(
        self,
        mean: WeightedMean,
        scale: float,
        sources: Sequence[memoryview],
        scales: Scales | None = None,
    ) -> Quantise:
        """Bind a mean of float8, and the scale of its codes, to `sources`.

        The scale is a positive float32, and not subnormal; elements are as in `prepare_largest`.
        """

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """Convert the float64 elements of `plane` to float32 in `out`; True if that is exact."""


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
