"""What a method is given, and what each method takes; loads no numpy.

Rule 1: a setting that a method does not take is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import prod

from ..choices import MergeMethod
from ..errors import LimitError, UsageError
from ..frozen import frozen

BLOCK = 1 << 16
"""Elements that a method is given at once, unless it needs whole rows."""
LONGEST_ROW = 1 << 22
"""Most elements of a row that della ranks, which is done for the row as a whole."""
VALUES_A_SOURCE = 8
"""Blocks of float64 that a method takes for each model, at most."""


@frozen
class MethodSettings:
    """A method with all that decides its result, besides the values of the models."""

    method: MergeMethod
    weights: tuple[Fraction, ...]
    """Weight of each model but the base, all positive."""
    densities: tuple[Fraction, ...] = ()
    """Share of the differences of each model that is kept; empty for methods that keep all."""
    scale: Fraction = Fraction(1)
    """The factor, called lambda, of the merged differences."""
    gamma: Fraction = Fraction(0)
    """Share of the largest differences that breadcrumbs leaves out."""
    epsilon: Fraction = Fraction(0)
    """Range of the probabilities of della."""
    seed: int = 0
    elect: bool = False
    """Whether only differences of the elected sign count."""
    normalize: bool = False
    """Whether the merged differences are divided by the weights that count."""

    def __post_init__(self) -> None:
        """Raise UsageError for settings that the method cannot work with."""
        for what, advice in self._problems():
            raise UsageError(what, advice=advice)

    def _problems(self) -> Iterator[tuple[str, str]]:
        taken, count = TAKES[self.method], len(self.weights)
        if count < taken.least:
            yield f"{self.method} needs {taken.least} models, but got {count}", "name more"
        if taken.most is not None and count > taken.most:
            yield f"{self.method} takes {taken.most} models, but got {count}", "name fewer"
        if any(weight <= 0 for weight in self.weights):
            yield f"{self.method} needs positive weights", "leave out models of weight 0 or less"
        if self.method is MergeMethod.MODEL_STOCK and len({*self.weights}) > 1:
            yield "model-stock gives all models the same weight", "leave out the weights"
        if taken.density and len(self.densities) != count:
            yield (
                f"{len(self.densities)} densities are given for {count} models",
                "give one for all, or one for each",
            )
        if any(not 0 < each <= 1 for each in self.densities):
            yield "a density must be above 0 and at most 1", "such as 0.2"
        if not 0 <= self.gamma < 1:
            yield f"--gamma is {self.gamma}, and not from 0 to below 1", "such as 0.01"
        half = self.epsilon / 2
        if self.epsilon and any(not half < each <= 1 - half for each in self.densities):
            what = f"an epsilon of {self.epsilon} is too large for this density"
            yield what, "less than twice the density, and at most twice 1 minus the density"
        if not 0 <= self.seed < 1 << 64:
            yield f"--seed is {self.seed}, and not from 0 to 2**64 - 1", "such as 0"


@frozen
class Taken:
    """What a method takes."""

    base: bool = False
    density: bool = False
    """Whether it keeps a part of the differences from a base, times lambda."""
    elect: bool = False
    """Whether signs are elected by default."""
    normalize: bool = False
    """Whether differences are averaged by default, instead of added."""
    gamma: bool = False
    epsilon: bool = False
    seed: bool = False
    least: int = 1
    """Fewest models, without the base."""
    most: int | None = None
    exact: bool = False
    """Whether the result is an exact mean, with weights that are recorded."""


TAKES: dict[MergeMethod, Taken] = {
    MergeMethod.TIES: Taken(base=True, density=True, elect=True, normalize=True),
    MergeMethod.DARE: Taken(base=True, density=True, seed=True),
    MergeMethod.DELLA: Taken(
        base=True, density=True, elect=True, normalize=True, epsilon=True, seed=True
    ),
    MergeMethod.BREADCRUMBS: Taken(base=True, density=True, gamma=True),
    MergeMethod.MODEL_STOCK: Taken(base=True, least=2, exact=True),
    MergeMethod.SLERP: Taken(least=2, most=2),
    MergeMethod.KARCHER: Taken(least=2),
    MergeMethod.GEOMETRIC_MEDIAN: Taken(least=2),
}


@frozen
class MergedTensor:
    """A tensor to be combined."""

    name: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of its elements."""
        return prod(self.shape)

    @property
    def row(self) -> int:
        """Elements of one of its rows; a vector is one row. At least 1."""
        return max(1, prod(self.shape[1:]) if len(self.shape) > 1 else self.count)


def block_of(method: MergeMethod, tensor: MergedTensor) -> int:
    """Elements that a method is given at once; LimitError for rows that are too long to rank."""
    if method is not MergeMethod.DELLA:
        return BLOCK
    if tensor.row > LONGEST_ROW:
        what = f"has rows of {tensor.row} elements, and della ranks at most {LONGEST_ROW} at once"
        raise LimitError(what, tensor=tensor.name, advice="use another method, such as dare")
    return max(1, BLOCK // tensor.row) * tensor.row
