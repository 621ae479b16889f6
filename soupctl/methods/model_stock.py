"""Model Stock: a mean of a base and fine-tuned models, whose ratio follows from their angles.

Jang et al., Model Stock: All we need is just a few fine-tuned models (arXiv 2403.19522),
section 4: w = t * mean(w_i) + (1 - t) * w_0 with t = N cos / (1 + (N - 1) cos), layer by layer,
where cos is the mean cosine of the angles between differences from the base.

Rule 1: the ratio is rounded to a multiple of 2**-24 and lies between 0 and 1; then the tensor is an
exact mean with rational weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import sqrt

from .contract import Values
from .products import InnerProducts, from_first
from .settings import BLOCK, MethodSettings

STEPS = 1 << 24
"""A ratio is a multiple of one over this."""


def stock_ratio(products: Values) -> Fraction:
    """The ratio from the inner products of the differences of at least two models from a base."""
    count = len(products)
    cosines = [
        _cosine(products[i, j], products[i, i], products[j, j])
        for i in range(count)
        for j in range(i + 1, count)
    ]
    cosine = sum(cosines) / len(cosines)
    if cosine <= 0:
        # beyond a right angle, the models agree about nothing but the base
        return Fraction(0)
    ratio = count * cosine / (1 + (count - 1) * cosine)
    return Fraction(min(STEPS, round(ratio * STEPS)), STEPS)


def _cosine(product: float, first: float, second: float) -> float:
    norms = sqrt(first) * sqrt(second)
    return float(product) / norms if norms else 0.0


class StockMean:
    """The mean of a base and models with the ratio of Model Stock."""

    block = BLOCK

    def __init__(self, models: int) -> None:
        self._models = models
        self._products = InnerProducts(models)
        self.ratio = Fraction(0)
        """The share of the models' mean, once it is surveyed."""
        self.needs_survey = True

    def survey(self, rows: Sequence[Values]) -> None:
        """Add the products of the differences."""
        self._products.add(from_first(rows))

    def end_survey(self) -> None:
        """Find the ratio."""
        self.ratio = stock_ratio(self._products.matrix())
        self.needs_survey = False

    def exact_weights(self) -> tuple[tuple[int, ...], int]:
        """The weight of the base, then that of each model, and their divisor."""
        share = int(self.ratio * STEPS)
        weights = (self._models * (STEPS - share), *(share,) * self._models)
        return weights, self._models * STEPS

    def combine(self, rows: Sequence[Values]) -> Values:
        """Refuse: engines compute exact means."""
        raise NotImplementedError("an exact mean is computed with its weights")


def model_stock(settings: MethodSettings) -> StockMean:
    """The combination of one tensor by Model Stock."""
    return StockMean(len(settings.weights))
