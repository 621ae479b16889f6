"""What a method is: how it combines one tensor, block by block.

Rule 1: the result is a function of settings, tensor name and values alone, whatever the threads.
Rule 2: a tensor is given block by block, in order; a method never holds all of it.
Rule 3: sums over a tensor are taken in one order, so that they have the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""Consecutive elements of a tensor in one of the models."""


class Combination(Protocol):
    """How one tensor is combined: surveys of all its blocks first, then the result, in order.

    `rows` are equally many values of each model; the base, if the method has one, comes first.
    """

    @property
    def block(self) -> int:
        """Elements of a block; the last one may be shorter."""

    @property
    def needs_survey(self) -> bool:
        """Whether all blocks must be seen once more before the first can be combined."""

    def survey(self, rows: Sequence[Values]) -> None:
        """Survey the next block."""

    def end_survey(self) -> None:
        """Conclude a survey of all blocks; OverflowError for values too large to combine."""

    def combine(self, rows: Sequence[Values]) -> Values:
        """The result for the next block."""

    @property
    def ratio(self) -> Fraction | None:
        """The ratio that the surveys have found, to be recorded; None if the method has none."""

    def exact_weights(self) -> tuple[tuple[int, ...], int] | None:
        """The whole-number weight of each row and their divisor, if the result is that mean."""


class Pruning(Protocol):
    """Which differences of one model count, and with which factor."""

    @property
    def needs_survey(self) -> bool:
        """Whether all differences must be seen once more."""

    def survey(self, differences: Values) -> None:
        """Survey the next block."""

    def end_survey(self) -> None:
        """Conclude a survey of all blocks."""

    def pruned(self, differences: Values) -> Values:
        """The differences of the next block, those that do not count being 0."""
