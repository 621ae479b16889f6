"""Updates made of factors: approximate float64 values with an error bound, and exact elements.

Rule 1: the bound of an element is the product of a number for its row and one for its column, which
costs next to nothing; it holds for any order of additions, fused or not.
Rule 2: exact elements are planes of float64 that add up to the update without rounding.
Rule 3: factors are float32 or narrower, so that a product of five of them does not underflow.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .addresses import address
from .exact_planes import Planes, add_up, multiply
from .native import native_address

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

UNIT = 2.0**-53
SLACK = 1 + 2.0**-30
"""A margin that exceeds the rounding errors of a bound."""


class Update(Protocol):
    """A matrix that is computed row by row."""

    shape: tuple[int, int]
    columns: Floats
    """For each column, the bound of the elements' magnitudes where `row_bounds` is 1."""
    terms: int
    """The number of float64s that the exact products of one element take."""
    error: float
    """The error of the approximate values, as a share of the bound."""

    def row_bounds(self, start: int, stop: int) -> Floats:
        """For each row, the bound of the elements' magnitudes where `columns` is 1."""

    def add(self, start: int, stop: int, share: float, out: Floats) -> None:
        """Add the share of values near rows `start` to `stop` to `out`, [rows, columns]."""

    def exact(self, rows: Places, columns: Places) -> Planes:
        """The elements at these rows and columns."""


class Matrix:
    """A factor itself."""

    error = 0.0
    terms = 1

    def __init__(self, values: Floats) -> None:
        """`values` are float32s or narrower, [rows, columns]."""
        self.values = values
        rows, columns = values.shape
        self.shape = rows, columns
        self.columns = np.ones(columns)

    def row_bounds(self, start: int, stop: int) -> Floats:
        """The largest sizes."""
        sizes: Floats = np.abs(self.values[start:stop]).max(axis=1, initial=0.0)
        return sizes

    def add(self, start: int, stop: int, share: float, out: Floats) -> None:
        """Add the share of the values, which are exact."""
        out += self.values[start:stop] * share

    def exact(self, rows: Places, columns: Places) -> Planes:
        """The values."""
        return self.values[rows, columns][None]


class Product:
    """The matrix product of two updates.

    By Cauchy and Schwarz an element, and the sum of the sizes of its terms, is at most the product
    of the norms of its row and column; k terms are summed with an error of k * UNIT of that sum
    (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
    """

    def __init__(self, left: Update, right: Update) -> None:
        """ValueError if their inner sides differ."""
        if left.shape[1] != right.shape[0]:
            raise ValueError(f"{left.shape} and {right.shape} do not multiply")
        self.left, self.right = left, right
        self.shape = left.shape[0], right.shape[1]
        self._right_values = values_of(right, 0, right.shape[0])
        self.columns = _column_norms(right, self._right_values)
        self._left_columns = None if isinstance(left, Matrix) else _norm(left.columns)
        both = isinstance(left, Matrix) and isinstance(right, Matrix)
        self.terms = left.shape[1] * (1 if both else 8 + left.terms + right.terms)
        self.error = (left.error + right.error + (left.shape[1] + 2) * UNIT) * 1.01

    def row_bounds(self, start: int, stop: int) -> Floats:
        """The norms of the rows of the left factor."""
        if self._left_columns is not None:
            return self.left.row_bounds(start, stop) * self._left_columns * SLACK
        values = values_of(self.left, start, stop)
        norms: Floats = np.sqrt(np.einsum("ij,ij->i", values, values)) * SLACK
        return norms

    def add(self, start: int, stop: int, share: float, out: Floats) -> None:
        """Add one product of float64 matrices."""
        add_product(values_of(self.left, start, stop, share), self._right_values, out)

    def exact(self, rows: Places, columns: Places) -> Planes:
        """The products of all terms: each is one float64 if both factors are stored ones."""
        left, right = self.left, self.right
        if isinstance(left, Matrix) and isinstance(right, Matrix):
            # two significands of 24 bits each
            terms: Planes = left.values[rows].T * right.values[:, columns]
            return terms
        inner, count = left.shape[1], len(rows)
        every = np.repeat(np.arange(inner), count)
        planes = multiply(
            left.exact(np.tile(rows, inner), every), right.exact(every, np.tile(columns, inner))
        )
        return planes.reshape(-1, count)


class Core:
    """A matrix [rows, columns of `right` times places] of a core [rows, inner, places].

    Its element at (a, (i, p)) is the sum over b of core[a, b, p] * right[b, i], as in
    `rebuild_tucker` of LyCORIS.
    """

    def __init__(self, core: Floats, right: Floats) -> None:
        """Both hold float32s or narrower; ValueError if their inner sides differ."""
        if core.ndim != 3 or core.shape[1] != right.shape[0]:
            raise ValueError(f"{core.shape} and {right.shape} do not multiply")
        self.core, self.right = core, np.ascontiguousarray(right)
        self.places = core.shape[2]
        self.shape = core.shape[0], right.shape[1] * self.places
        self.columns = np.repeat(np.sqrt(np.einsum("bi,bi->i", right, right)), self.places) * SLACK
        self.terms = core.shape[1]
        self.error = (core.shape[1] + 2) * UNIT * 1.01

    def row_bounds(self, start: int, stop: int) -> Floats:
        """The largest norm of a row of the core at any place."""
        core = self.core[start:stop]
        squares = np.einsum("abp,abp->ap", core, core)
        bounds: Floats = np.sqrt(squares.max(axis=1, initial=0.0)) * SLACK
        return bounds

    def add(self, start: int, stop: int, share: float, out: Floats) -> None:
        """Add one product of float64 matrices for each place."""
        for place in range(self.places):
            values = np.zeros((stop - start, self.right.shape[1]))
            core = np.ascontiguousarray(self.core[start:stop, :, place])
            add_product(core * share, self.right, values)
            out[:, place :: self.places] += values

    def exact(self, rows: Places, columns: Places) -> Planes:
        """As few planes as the sums need."""
        column, place = np.divmod(columns, self.places)
        return add_up(self.core[rows, :, place].T * self.right[:, column])


class Hadamard:
    """The product of two updates, element by element."""

    def __init__(self, one: Update, other: Update) -> None:
        """ValueError if their shapes differ."""
        if one.shape != other.shape:
            raise ValueError(f"{one.shape} and {other.shape} are not the same")
        self.both = one, other
        self.shape = one.shape
        self.columns = one.columns * other.columns * SLACK
        self.terms = one.terms + other.terms + 16
        self.error = (one.error + other.error + 2 * UNIT) * 1.01

    def row_bounds(self, start: int, stop: int) -> Floats:
        """The products of the bounds."""
        one, other = (each.row_bounds(start, stop) for each in self.both)
        return one * other * SLACK

    def add(self, start: int, stop: int, share: float, out: Floats) -> None:
        """Add the products of the values."""
        one, other = (values_of(each, start, stop) for each in self.both)
        one *= other
        one *= share
        out += one

    def exact(self, rows: Places, columns: Places) -> Planes:
        """The products of the exact elements."""
        one, other = (add_up(each.exact(rows, columns)) for each in self.both)
        return multiply(one, other)


class Kronecker:
    """The Kronecker product of two updates."""

    def __init__(self, outer: Update, inner: Update) -> None:
        self.outer, self.inner = outer, inner
        rows, columns = inner.shape
        self.shape = outer.shape[0] * rows, outer.shape[1] * columns
        self.columns = np.multiply.outer(outer.columns, inner.columns).reshape(-1) * SLACK
        self.terms = outer.terms + inner.terms + 16
        self.error = (outer.error + inner.error + 2 * UNIT) * 1.01

    def row_bounds(self, start: int, stop: int) -> Floats:
        """The products of the bounds."""
        bounds = [
            self.outer.row_bounds(row, row + 1) * self.inner.row_bounds(first, last)
            for row, first, last in self.blocks(start, stop)
        ]
        return np.concatenate([np.zeros(0), *bounds]) * SLACK

    def add(self, start: int, stop: int, share: float, out: Floats) -> None:
        """Add the products of the values."""
        done = 0
        for row, first, last in self.blocks(start, stop):
            outer = values_of(self.outer, row, row + 1, share)
            inner = values_of(self.inner, first, last)
            out[done : done + last - first] += np.kron(outer, inner)
            done += last - first

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """A row of the outer factor, and the rows of the inner one that are wanted beneath it."""
        height = self.inner.shape[0]
        while start < stop:
            row, first = divmod(start, height)
            last = min(height, first + stop - start)
            yield row, first, last
            start += last - first

    def exact(self, rows: Places, columns: Places) -> Planes:
        """The products of the exact elements."""
        height, width = self.inner.shape
        outer = self.outer.exact(rows // height, columns // width)
        inner = self.inner.exact(rows % height, columns % width)
        return multiply(add_up(outer), add_up(inner))


def values_of(update: Update, start: int, stop: int, share: float = 1.0) -> Floats:
    """The approximate values of rows `start` to `stop`, times the share, in new memory."""
    out = np.zeros((stop - start, update.shape[1]))
    update.add(start, stop, share, out)
    return out


def add_product(left: Floats, right: Floats, out: Floats) -> None:
    """Add a product of matrices to `out`; all are contiguous by rows."""
    rows, inner = left.shape
    parts = address(left), address(right), rows, inner, right.shape[1], address(out)
    _multiply_function()(*parts)


@cache
def _multiply_function() -> Callable[..., int]:
    """The compiled product; calling it lets other threads run."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 6)
    return prototype(native_address("multiply.multiply"))


def _norm(values: Floats) -> float:
    return float(np.sqrt(np.dot(values, values))) * SLACK


def _column_norms(right: Update, values: Floats) -> Floats:
    """An upper bound of the norm of each column of `right`."""
    if isinstance(right, Matrix):
        norms: Floats = np.sqrt(np.einsum("ij,ij->j", values, values)) * SLACK
        return norms
    return right.columns * _norm(right.row_bounds(0, right.shape[0]))
