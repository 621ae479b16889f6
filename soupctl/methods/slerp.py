"""SLERP: from one model to another along the arc between them, tensor by tensor.

Shoemake, Animating Rotation with Quaternion Curves (SIGGRAPH 1985): the coefficients
are sin((1 - t) a) / sin(a) and sin(t a) / sin(a), where a is the angle. As in mergekit, they are
those of the tensors themselves, not of unit vectors, and t alone where the cosine is beyond 0.9995.
"""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

from .angles import arc_cosine, sine
from .contract import Values
from .products import ByProducts, InnerProducts, as_they_are
from .settings import MethodSettings

NEARLY_PARALLEL = 0.9995
"""The cosine beyond which the arc is taken to be straight."""


def arc_coefficients(products: Values, share: Fraction) -> tuple[float, float]:
    """The coefficients of two tensors with these inner products; `share` is that of the second."""
    t = float(share)
    norms = sqrt(products[0, 0]) * sqrt(products[1, 1])
    cosine = float(products[0, 1]) / norms if norms else 1.0
    if abs(cosine) > NEARLY_PARALLEL:
        return 1 - t, t
    angle = arc_cosine(cosine)
    return sine((1 - t) * angle) / sine(angle), sine(t * angle) / sine(angle)


def slerp(settings: MethodSettings) -> ByProducts:
    """The combination of one tensor by SLERP; the weights of both models say how far."""
    share = settings.weights[1] / sum(settings.weights)
    products = InnerProducts(2)
    return ByProducts(products, as_they_are, lambda found: arc_coefficients(found, share))
