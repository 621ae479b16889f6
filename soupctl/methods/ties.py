"""TIES: keep the largest differences of each model, elect a sign, average those that have it.

Yadav et al., TIES-Merging: Resolving Interference When Merging Models (arXiv 2306.01708), section
4.2, algorithm 1. Differences are trimmed tensor by tensor, as mergekit does, not over the whole
model.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np

from .contract import Values
from .selection import LargestMagnitudes, magnitude_bits
from .settings import MergedTensor, MethodSettings
from .task_vectors import TaskVectors


def kept_of(density: Fraction, count: int) -> int:
    """How many of `count` differences a density keeps: the whole part, but at least one."""
    return max(min(count, 1), floor(density * count))


class Trimmed:
    """Keeps the largest magnitudes: `density` times the elements of the tensor."""

    def __init__(self, density: Fraction, count: int) -> None:
        self._largest = LargestMagnitudes(kept_of(density, count), count)

    @property
    def needs_survey(self) -> bool:
        """Whether the smallest magnitude that is kept is not known yet."""
        return self._largest.needs_survey

    def survey(self, differences: Values) -> None:
        """Survey the next block."""
        self._largest.survey(magnitude_bits(differences))

    def end_survey(self) -> None:
        """Decide what the survey has shown."""
        self._largest.end_survey()

    def pruned(self, differences: Values) -> Values:
        """The differences, those that are trimmed being 0."""
        kept = self._largest.selected(magnitude_bits(differences))
        return np.where(kept, differences, 0.0)


def ties(settings: MethodSettings, tensor: MergedTensor) -> TaskVectors:
    """The combination of one tensor by TIES."""
    prunings = [Trimmed(density, tensor.count) for density in settings.densities]
    return TaskVectors(settings, prunings)
