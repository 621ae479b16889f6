"""Exact products and sums of float64 arrays, as planes [planes, elements] that add up to them.

Rule 1: no product here under- or overflows: planes are made of at most five float32s, see
`engines.updates`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..format.dtypes import DType
from .contract import WeightedMean
from .cpu import CpuEngine

Planes = NDArray[np.float64]
"""Float64 [planes, elements]: the values are the sums over the planes."""

SPLITTER = 2.0**27 + 1
"""Dekker, "A floating-point technique for extending the available precision" (1971)."""


def multiply(one: Planes, other: Planes) -> Planes:
    """The exact products, element by element."""
    first, second = one[:, None, :], other[None, :, :]
    product = first * second
    (high, low), (upper, lower) = _split(first), _split(second)
    rest = low * lower - (((product - high * upper) - low * upper) - high * lower)
    planes = [each.reshape(-1, one.shape[1]) for each in (product, rest)]
    return np.concatenate(planes if planes[1].any() else planes[:1])


def _split(values: Planes) -> tuple[Planes, Planes]:
    """Two parts of 26 bits each that add up to each value."""
    scaled = values * SPLITTER
    high = scaled - (scaled - values)
    return high, values - high


def add_up(planes: Planes) -> Planes:
    """As few planes as the exact sums need."""
    count, size = planes.shape
    if count == 1 or not size:
        return planes[:1]
    mean = WeightedMean((DType.F64,) * count, (1,) * count, DType.F64, divisor=1)
    rows = [np.ascontiguousarray(row).data.cast("B") for row in planes]
    first = np.empty(size)
    others = CpuEngine().prepare_sum(mean, rows)(0, size, first.data.cast("B"))
    return np.stack([first, *(np.frombuffer(plane, np.float64) for plane in others)])
