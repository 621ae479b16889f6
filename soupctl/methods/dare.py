"""DARE: drop differences at random, and rescale the others by what was dropped.

Yu et al., Language Models are Super Mario (arXiv 2311.03099), section 3.2: each difference is
dropped with probability p and the others are divided by 1 - p, which is the density here.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .contract import Values
from .random_numbers import ElementNumbers
from .settings import MergedTensor, MethodSettings
from .task_vectors import TaskVectors


class Dropped:
    """Keeps each difference with a probability, and divides it by that."""

    needs_survey = False

    def __init__(self, density: Fraction, numbers: ElementNumbers) -> None:
        self._density = float(density)
        self._numbers = numbers
        self._start = 0

    def survey(self, differences: Values) -> None:
        """Do nothing: the values do not matter."""

    def end_survey(self) -> None:
        """Decide nothing."""

    def pruned(self, differences: Values) -> Values:
        """The differences, dropped or rescaled."""
        kept = self._shares(len(differences)) < self._density
        return np.where(kept, differences / self._density, 0.0)

    def _shares(self, count: int) -> Values:
        self._start += count
        return self._numbers.shares(self._start - count, count)


def dare(settings: MethodSettings, tensor: MergedTensor) -> TaskVectors:
    """The combination of one tensor by DARE."""
    prunings = [
        Dropped(density, ElementNumbers(settings.seed, tensor.name, model))
        for model, density in enumerate(settings.densities)
    ]
    return TaskVectors(settings, prunings)
