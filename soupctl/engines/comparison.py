"""Computing the sums of `moments` and the products of deltas, in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..format.dtypes import DType
from ..kernels import tables
from .addresses import address
from .moments import Moments, total
from .native import native_address

Floats = NDArray[np.float64]
Sums = ctypes.c_double * tables.COMPARED_LENGTH


def moments(one: memoryview, other: memoryview, dtypes: tuple[DType, DType]) -> Moments:
    """The sums over the pairs of elements of two arrays of equal length, of float dtypes."""
    count, sums = len(one) * 8 // dtypes[0].bits, Sums()
    _moments_function(*dtypes)(address(one), address(other), count, ctypes.addressof(sums))

    def sum_at(start: int) -> float:
        return total(sums[start : start + tables.LANES])

    return Moments(
        elements=count,
        differing=int(sum_at(tables.DIFFERING)),
        nonfinite=int(sum_at(tables.NONFINITE)),
        one=sum_at(tables.ONE),
        other=sum_at(tables.OTHER),
        product=sum_at(tables.PRODUCT),
        change=sum_at(tables.CHANGE),
        largest=max(sums[tables.LARGEST_CHANGE : tables.LARGEST_CHANGE + tables.LANES]),
    )


@cache
def _moments_function(one: DType, other: DType) -> Callable[..., int]:
    """The compiled sums; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
    return prototype(native_address("moments.moments", one.value, other.value))


@dataclass(frozen=True, slots=True, eq=False)
class DeltaProducts:
    """Sums over the elements of several tensors minus one base."""

    products: Floats
    """[deltas, deltas]: the sum of the products of each two deltas."""
    base: float
    """The sum of the squares of the base."""
    conflicts: int
    """Elements that some deltas raise and others lower."""
    changed: int
    """Elements that at least two deltas change."""
    nonfinite: int
    """Elements that are NaN or infinite somewhere, and count for nothing else."""


def delta_products(base: Floats, others: Floats) -> DeltaProducts:
    """The sums for `others`, [tensors, elements], minus `base`, [elements]."""
    with np.errstate(invalid="ignore", over="ignore"):
        deltas = others - base
    kept = np.isfinite(deltas).all(axis=0)
    nonfinite = deltas.shape[1] - int(np.count_nonzero(kept))
    if nonfinite:
        base, deltas = base[kept], deltas[:, kept]
    raised, lowered = (np.count_nonzero(each, axis=0) for each in (deltas > 0, deltas < 0))
    conflicts = int(np.count_nonzero((raised > 0) & (lowered > 0)))
    changed = int(np.count_nonzero(raised + lowered > 1))
    with np.errstate(over="ignore"):
        square = float(np.dot(base, base))
        return DeltaProducts(deltas @ deltas.T, square, conflicts, changed, nonfinite)
