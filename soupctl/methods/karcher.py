"""The Karcher mean: the point of the sphere from which the models lie in no direction on average.

Karcher, Riemannian center of mass and mollifier smoothing (Comm. Pure Appl. Math. 30, 1977), found
by gradient descent on the unit sphere, tensor by tensor; as in mergekit, its length is the weighted
mean of the lengths. All points are combinations of the models, so coefficients are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt

import numpy as np

from .angles import arc_cosine, cosine, sine
from .contract import Values
from .products import ByProducts, InnerProducts, as_they_are, square, times
from .settings import MethodSettings

MOST_STEPS = 1000
NEAR = 1e-12
"""A step shorter than this is the last one."""


def karcher_coefficients(products: Values, weights: Sequence[float]) -> list[float]:
    """The coefficients of tensors with these inner products, for weights that add up to 1."""
    norms = [sqrt(max(each, 0.0)) for each in products.diagonal()]
    used = [place for place, norm in enumerate(norms) if norm]
    if not used:
        return list(weights)
    total = sum(weights[place] for place in used)
    shares = np.array([weights[place] / total for place in used])
    lengths = np.array([norms[place] for place in used])
    cosines = products[np.ix_(used, used)] / np.outer(lengths, lengths)
    point = _mean_on_sphere(cosines, shares)
    length = sum(weight * norm for weight, norm in zip(weights, norms, strict=True))
    found = [0.0] * len(weights)
    for place, coefficient, norm in zip(used, point, lengths, strict=True):
        found[place] = float(coefficient / norm) * length
    return found


def _mean_on_sphere(cosines: Values, shares: Values) -> Values:
    """The coefficients of unit vectors with these cosines in their mean on the sphere."""
    point = _unit(shares, cosines)
    for _ in range(MOST_STEPS):
        angles = [arc_cosine(float(each)) for each in np.clip(times(cosines, point), -1, 1)]
        factors = shares * np.array([_stretch(each) for each in angles])
        # the mean of the logarithms: factor * (unit vector - cosine * point)
        step = factors - point * fsum(factors * np.array([cosine(each) for each in angles]))
        size = sqrt(square(cosines, step))
        if size < NEAR:
            break
        point = _unit(cosine(size) * point + sine(size) / size * step, cosines)
    return point


def _stretch(angle: float) -> float:
    """An angle over its sine; 1 where that is 0."""
    height = sine(angle)
    return angle / height if height > NEAR else 1.0


def _unit(coefficients: Values, cosines: Values) -> Values:
    """The direction scaled to length 1; if all cancel, that of the largest share."""
    length = sqrt(square(cosines, coefficients))
    if length < NEAR:
        unit: Values = np.zeros_like(coefficients)
        unit[int(np.argmax(coefficients))] = 1.0
        return unit
    return coefficients / length


def karcher(settings: MethodSettings) -> ByProducts:
    """The combination of one tensor by the Karcher mean."""
    total = sum(settings.weights)
    weights = [float(weight / total) for weight in settings.weights]
    products = InnerProducts(len(weights))
    return ByProducts(products, as_they_are, lambda found: karcher_coefficients(found, weights))
