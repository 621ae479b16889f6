"""Exact rows of updates, as planes of float64 that add up to them.

Rule 1: products of matrices are those of their slices, see `exact_products`; other products are
those of `exact_planes`. Nothing here is rounded.
Rule 2: factors of very different magnitudes, which would take many slices, have no rows here; their
elements are computed one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .exact_planes import Planes, add_up, multiply
from .exact_products import exact_product, slice_bits, slices_of
from .updates import Core, Floats, Hadamard, Kronecker, Matrix, Product, Update

Rows = Callable[[int, int], Planes | None]
"""The planes [planes, rows, columns] of rows from one to before another; None without rows."""


def exact_rows(update: Update) -> Rows:
    """The exact rows of an update."""
    if isinstance(update, Product):
        return _product_rows(update)
    if isinstance(update, Core):
        return _core_rows(update)
    if isinstance(update, Hadamard):
        return _hadamard_rows(update)
    if isinstance(update, Kronecker):
        return _kronecker_rows(update)
    assert isinstance(update, Matrix)
    values = update.values
    return lambda start, stop: values[start:stop][None]


def _product_rows(update: Product) -> Rows:
    rows, bits = exact_rows(update.left), slice_bits(update.left.shape[1])
    right = exact_rows(update.right)(0, update.right.shape[0])
    slices = None if right is None else _slices(right, 0, bits)

    def product(start: int, stop: int) -> Planes | None:
        left = rows(start, stop)
        mine = None if left is None else _slices(left, 1, bits)
        if mine is None or slices is None:
            return None
        return exact_product(mine, slices, (stop - start, update.shape[1]))

    return product


def _core_rows(update: Core) -> Rows:
    bits = slice_bits(update.core.shape[1])
    right = slices_of(update.right, 0, bits)

    def product(start: int, stop: int) -> Planes | None:
        found = []
        for place in range(update.places):
            core = np.ascontiguousarray(update.core[start:stop, :, place])
            left = slices_of(core, 1, bits)
            if left is None or right is None:
                return None
            found.append(exact_product(left, right, (stop - start, update.right.shape[1])))
        planes = np.zeros((max(map(len, found)), stop - start, update.shape[1]))
        for place, each in enumerate(found):
            planes[: len(each), :, place :: update.places] = each
        return _few(planes)

    return product


def _hadamard_rows(update: Hadamard) -> Rows:
    both = [exact_rows(each) for each in update.both]

    def product(start: int, stop: int) -> Planes | None:
        one, other = (rows(start, stop) for rows in both)
        return None if one is None or other is None else _times(_few(one), _few(other))

    return product


def _kronecker_rows(update: Kronecker) -> Rows:
    outer_rows, inner_rows = exact_rows(update.outer), exact_rows(update.inner)

    def product(start: int, stop: int) -> Planes | None:
        found = []
        for row, first, last in update.blocks(start, stop):
            outer, inner = outer_rows(row, row + 1), inner_rows(first, last)
            if outer is None or inner is None:
                return None
            wide = np.repeat(_few(outer), update.inner.shape[1], axis=2)
            deep = np.tile(_few(inner), (1, 1, update.outer.shape[1]))
            found.append(_times(np.broadcast_to(wide, (len(wide), *deep.shape[1:])), deep))
        planes = np.zeros((max(map(len, found)), stop - start, update.shape[1]))
        done = 0
        for each in found:
            planes[: len(each), done : done + each.shape[1]] = each
            done += each.shape[1]
        return planes

    return product


def _slices(planes: Planes, axis: int, bits: int) -> list[Floats] | None:
    """The slices of all planes; None if one of them takes too many."""
    found: list[Floats] = []
    for plane in planes:
        slices = slices_of(plane, axis, bits)
        if slices is None:
            return None
        found += slices
    return found


def _few(planes: Planes) -> Planes:
    """As few planes as the exact rows need."""
    return add_up(planes.reshape(len(planes), -1)).reshape(-1, *planes.shape[1:])


def _times(one: Planes, other: Planes) -> Planes:
    """The exact products of two matrices, element by element."""
    shape = one.shape[1:]
    both = (each.reshape(len(each), -1) for each in (one, other))
    return multiply(*both).reshape(-1, *shape)
