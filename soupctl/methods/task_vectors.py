"""A base plus the pruned differences of models from it, with or without an election of signs.

Prune, elect, merge: Yadav et al., TIES-Merging (arXiv 2306.01708), section 4 and algorithm 1, with
a weight for each model. Without the election it is task arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .contract import Pruning, Values
from .settings import BLOCK, MethodSettings


class TaskVectors:
    """Combines a base with the differences of models from it, each pruned in its own way."""

    ratio = None

    def __init__(
        self, settings: MethodSettings, prunings: Sequence[Pruning], block: int = BLOCK
    ) -> None:
        self._settings = settings
        self._prunings = prunings
        self._weights = [float(weight) for weight in settings.weights]
        self._scale = float(settings.scale)
        self.block = block

    @property
    def needs_survey(self) -> bool:
        """Whether a pruning has not seen enough."""
        return any(each.needs_survey for each in self._prunings)

    def survey(self, rows: Sequence[Values]) -> None:
        """Show each pruning the differences of its model."""
        base, *models = rows
        for pruning, model in zip(self._prunings, models, strict=True):
            if pruning.needs_survey:
                pruning.survey(model - base)

    def end_survey(self) -> None:
        """Conclude the surveys of all prunings."""
        for each in self._prunings:
            if each.needs_survey:
                each.end_survey()

    def combine(self, rows: Sequence[Values]) -> Values:
        """The base plus lambda times the merged differences."""
        base, *models = rows
        pruned = [
            pruning.pruned(model - base) * weight
            for pruning, model, weight in zip(self._prunings, models, self._weights, strict=True)
        ]
        merged = self._elected(pruned) if self._settings.elect else self._summed(pruned)
        return base + self._scale * merged

    def _summed(self, weighted: Sequence[Values]) -> Values:
        total = added(weighted)
        return total / sum(self._weights) if self._settings.normalize else total

    def _elected(self, weighted: Sequence[Values]) -> Values:
        """The sum, or the mean, of those whose sign is that of the sum of all."""
        elected = np.sign(added(weighted))
        agreeing = [(np.sign(each) == elected) & (elected != 0) for each in weighted]
        total = added(
            [np.where(agrees, each, 0.0) for agrees, each in zip(agreeing, weighted, strict=True)]
        )
        if not self._settings.normalize:
            return total
        counted = added(
            [
                np.where(agrees, weight, 0.0)
                for agrees, weight in zip(agreeing, self._weights, strict=True)
            ]
        )
        mean: Values = np.divide(total, counted, out=np.zeros_like(total), where=counted > 0)
        return mean

    def exact_weights(self) -> None:
        """No weights: the result is not a mean."""
        return


def added(arrays: Sequence[Values]) -> Values:
    """The sum of several arrays, from the first to the last."""
    first, *others = arrays
    total = first.copy()
    for each in others:
        total += each
    return total
