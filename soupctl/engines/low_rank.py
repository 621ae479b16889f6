"""The product of two thin matrices that is nearest to a matrix.

By Eckart and Young (1936) it is the singular value decomposition, cut off after the largest values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..frozen import frozen

Floats = NDArray[np.float64]


@frozen
class LowRank:
    """Two factors, and how much of a matrix is in their product."""

    up: Floats
    """[rows, rank]"""
    down: Floats
    """[rank, columns]"""
    energy: float
    """The squared Frobenius norm of the product over that of the matrix; 1 for zeros."""


def low_rank(values: Floats, rank: int) -> LowRank:
    """The nearest product of this rank, or of the smaller side of the matrix if that is less.

    The singular values are divided evenly between both factors, as kohya's extraction does.
    """
    is_wide = values.shape[0] <= values.shape[1]
    matrix = values if is_wide else values.T
    # the eigenvectors of the smaller Gram matrix are the singular vectors
    squares, vectors = np.linalg.eigh(matrix @ matrix.T)
    kept = min(rank, len(squares))
    chosen = np.ascontiguousarray(vectors[:, ::-1][:, :kept])
    sizes = np.sqrt(np.sqrt(np.maximum(squares[::-1][:kept], 0.0)))
    safe = np.where(sizes > 0, sizes, 1.0)
    one, other = chosen * sizes, (chosen.T @ matrix) / safe[:, None]
    total = float(np.maximum(squares, 0.0).sum())
    energy = float(np.maximum(squares[::-1][:kept], 0.0).sum()) / total if total else 1.0
    return LowRank(one, other, energy) if is_wide else LowRank(other.T, one.T, energy)
