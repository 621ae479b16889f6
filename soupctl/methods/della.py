"""DELLA: drop differences at random, small ones of a row with a higher probability.

Deep et al., DELLA-Merging (arXiv 2406.11617), section 3: MAGPRUNE ranks the differences of each row
by magnitude, the largest with rank 0, and drops that of rank r of n with probability
p - epsilon / 2 + epsilon * r / n, where p is 1 minus the density; what is kept is divided by the
probability that it was kept with. Then signs are elected as in TIES.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .contract import Values
from .random_numbers import ElementNumbers
from .settings import MergedTensor, MethodSettings, block_of
from .task_vectors import TaskVectors


class MagnitudePruned:
    """Keeps each difference with a probability that grows with its rank in its row."""

    needs_survey = False

    def __init__(
        self, density: Fraction, epsilon: Fraction, row: int, numbers: ElementNumbers
    ) -> None:
        self._highest = float(density + epsilon / 2)
        self._step = float(epsilon / row)
        self._row = row
        self._numbers = numbers
        self._start = 0

    def survey(self, differences: Values) -> None:
        """Do nothing: rows are ranked one by one."""

    def end_survey(self) -> None:
        """Decide nothing."""

    def pruned(self, differences: Values) -> Values:
        """The differences of whole rows, dropped or rescaled."""
        magnitudes = -np.abs(differences).reshape(-1, self._row)
        order = np.argsort(magnitudes, axis=1, kind="stable")
        ranks = np.empty(magnitudes.shape, np.float64)
        np.put_along_axis(ranks, order, np.arange(self._row, dtype=np.float64)[None], axis=1)
        chances = self._highest - self._step * ranks.reshape(-1)
        kept = self._shares(len(differences)) < chances
        return np.where(kept, differences / chances, 0.0)

    def _shares(self, count: int) -> Values:
        self._start += count
        return self._numbers.shares(self._start - count, count)


def della(settings: MethodSettings, tensor: MergedTensor) -> TaskVectors:
    """The combination of one tensor by DELLA."""
    block = block_of(settings.method, tensor)
    prunings = [
        MagnitudePruned(
            density, settings.epsilon, tensor.row, ElementNumbers(settings.seed, tensor.name, model)
        )
        for model, density in enumerate(settings.densities)
    ]
    return TaskVectors(settings, prunings, block)
