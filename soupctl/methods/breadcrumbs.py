"""Model Breadcrumbs: leave out the largest and the smallest differences of each tensor.

Davari and Belilovsky, Model Breadcrumbs (arXiv 2312.06795), section 3, where masks are made layer
by layer: gamma is the share of the largest that is left out, and the density that of the next ones,
which are kept.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np

from .contract import Values
from .selection import LargestMagnitudes, magnitude_bits
from .settings import MergedTensor, MethodSettings
from .task_vectors import TaskVectors
from .ties import kept_of


class MiddleMagnitudes:
    """Keeps `density` of the differences, after the `gamma` largest; see mergekit's rule.

    Where the two exceed the tensor, fewer of the largest are left out.
    """

    def __init__(self, density: Fraction, gamma: Fraction, count: int) -> None:
        kept = kept_of(density, count)
        outliers = min(floor(gamma * count), count - kept)
        self._outliers = LargestMagnitudes(outliers, count)
        self._upper = LargestMagnitudes(outliers + kept, count)
        self._both = (self._outliers, self._upper)

    @property
    def needs_survey(self) -> bool:
        """Whether a bound is not known yet."""
        return any(each.needs_survey for each in self._both)

    def survey(self, differences: Values) -> None:
        """Survey the next block."""
        bits = magnitude_bits(differences)
        for each in self._both:
            if each.needs_survey:
                each.survey(bits)

    def end_survey(self) -> None:
        """Decide what the survey has shown."""
        for each in self._both:
            if each.needs_survey:
                each.end_survey()

    def pruned(self, differences: Values) -> Values:
        """The differences, those that are left out being 0."""
        bits = magnitude_bits(differences)
        kept = self._upper.selected(bits) & ~self._outliers.selected(bits)
        return np.where(kept, differences, 0.0)


def breadcrumbs(settings: MethodSettings, tensor: MergedTensor) -> TaskVectors:
    """The combination of one tensor by Model Breadcrumbs."""
    prunings = [
        MiddleMagnitudes(density, settings.gamma, tensor.count) for density in settings.densities
    ]
    return TaskVectors(settings, prunings)
