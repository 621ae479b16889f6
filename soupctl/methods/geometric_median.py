"""The geometric median: the point whose weighted distances to the models add up to least.

Weiszfeld's algorithm, with the step of Vardi and Zhang, The multivariate L1-median and associated
data depth (PNAS 97, 2000), for a point that is one of the models. A tensor is
one point. All points are combinations of the models, so coefficients are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt

import numpy as np

from .contract import Values
from .products import ByProducts, InnerProducts, from_first, square, times
from .settings import MethodSettings

MOST_STEPS = 10000
NEAR = 1e-13
"""A change of all coefficients by less is the last one."""


def median_coefficients(products: Values, weights: Sequence[float]) -> list[float]:
    """The coefficients of tensors in their median, which add up to 1.

    `products` are the inner products of the differences from the first; weights add up to 1.
    """
    count = len(weights)
    every = np.zeros((count, count))
    every[1:, 1:] = products
    shares = np.array(weights)
    point = shares.copy()
    scale = sqrt(float(every.diagonal().max()))
    if not scale:
        return list(weights)
    every = every / scale**2
    for _ in range(MOST_STEPS):
        following = _step(every, shares, point)
        change = float(np.abs(following - point).max())
        point = following
        if change < NEAR:
            break
    return [float(each) for each in point]


def _step(products: Values, shares: Values, point: Values) -> Values:
    """The next point, in coefficients."""
    along = times(products, point)
    squares = products.diagonal() - 2 * along + fsum(point * along)
    distances = np.sqrt(np.maximum(squares, 0.0))
    apart = distances > 1e-7
    pulls = np.divide(shares, distances, out=np.zeros_like(shares), where=apart)
    if not apart.any():
        return point
    total = fsum(pulls)
    target: Values = pulls / total
    if apart.all():
        return target
    here = fsum(shares[~apart])
    strength = sqrt(square(products, pulls - total * point))
    stay = min(1.0, here / strength) if strength else 1.0
    following: Values = (1 - stay) * target + stay * point
    return following


def geometric_median(settings: MethodSettings) -> ByProducts:
    """The combination of one tensor by the geometric median."""
    total = sum(settings.weights)
    weights = [float(weight / total) for weight in settings.weights]
    products = InnerProducts(len(weights) - 1)
    return ByProducts(products, from_first, lambda found: median_coefficients(found, weights))
