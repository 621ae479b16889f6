"""Inner products of a tensor in several models, summed block by block in one order.

Rule 1: each lane adds every 256th product in order, and lanes are added by a correctly rounded sum,
so that neither blocks nor the width of the processor's registers change a bit.
Rule 2: no product is that of a library for matrices, which each processor computes in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum

import numpy as np

from .contract import Values
from .settings import BLOCK
from .task_vectors import added

LANES = 256


class InnerProducts:
    """The inner products of each pair of rows, as far as they were added."""

    def __init__(self, rows: int) -> None:
        self._pairs = [(i, j) for i in range(rows) for j in range(i, rows)]
        self._lanes = np.zeros((len(self._pairs), LANES))
        self._rows = rows

    def add(self, rows: Sequence[Values]) -> None:
        """Add the products of the next block; all but the last have a multiple of 256 elements."""
        lines, rest = divmod(len(rows[0]), LANES)
        whole = lines * LANES
        table = np.empty((lines + 1, LANES))
        for pair, (i, j) in enumerate(self._pairs):
            lanes = self._lanes[pair]
            table[0] = lanes
            np.multiply(rows[i][:whole], rows[j][:whole], out=table[1:].reshape(-1))
            # line by line from the first: only along a line would numpy add in pairs
            np.add.reduce(table, axis=0, out=lanes)
            lanes[:rest] += rows[i][whole:] * rows[j][whole:]

    def matrix(self) -> Values:
        """The matrix of all inner products; OverflowError for one that float64 does not hold."""
        if not np.isfinite(self._lanes).all():
            raise OverflowError("a product is beyond the range of float64")
        found = np.zeros((self._rows, self._rows))
        for (i, j), lanes in zip(self._pairs, self._lanes, strict=True):
            found[i, j] = found[j, i] = fsum(lanes)
        return found


class ByProducts:
    """The sum of all rows, each times a coefficient that follows from their inner products."""

    block = BLOCK
    ratio = None

    def __init__(
        self,
        products: InnerProducts,
        seen: Callable[[Sequence[Values]], Sequence[Values]],
        coefficients: Callable[[Values], Sequence[float]],
    ) -> None:
        """`seen` makes of a block's rows those whose products are taken."""
        self._products = products
        self._seen = seen
        self._find = coefficients
        self._coefficients: Sequence[float] = ()
        self.needs_survey = True

    def survey(self, rows: Sequence[Values]) -> None:
        """Add the products of the next block."""
        self._products.add(self._seen(rows))

    def end_survey(self) -> None:
        """Find the coefficients."""
        self._coefficients = self._find(self._products.matrix())
        self.needs_survey = False

    def combine(self, rows: Sequence[Values]) -> Values:
        """The sum of the rows, each times its coefficient."""
        pairs = zip(rows, self._coefficients, strict=True)
        return added([row * coefficient for row, coefficient in pairs])

    def exact_weights(self) -> None:
        """No weights: coefficients are rounded, and so is each product."""
        return


def times(matrix: Values, vector: Values) -> Values:
    """A small matrix times a vector; each element is the correctly rounded sum of its products."""
    return np.array([fsum(row * vector) for row in matrix])


def square(matrix: Values, vector: Values) -> float:
    """The square of a vector's length where the inner products are `matrix`; at least 0."""
    return max(fsum(vector * times(matrix, vector)), 0.0)


def as_they_are(rows: Sequence[Values]) -> Sequence[Values]:
    """The rows themselves."""
    return rows


def from_first(rows: Sequence[Values]) -> Sequence[Values]:
    """The differences of the other rows from the first."""
    return [row - rows[0] for row in rows[1:]]
