"""The update of a module as a matrix, from its stored factors.

The formulas are those of kohya's networks/lora.py, PEFT's tuners/lora, and LyCORIS'
modules/locon, loha and lokr; a column index ends with the position in the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..engines.updates import Core, Hadamard, Kronecker, Matrix, Product, Update
from .modules import Family

Factors = Mapping[str, NDArray[np.float64]]
"""The values of the factors by role, in their stored shapes."""
_Core = NDArray[np.float64] | None


def update_of(family: Family, factors: Factors) -> Update:
    """The update of a module, [rows, columns]; ValueError for shapes that do not fit."""
    if family is Family.FULL:
        whole = factors["diff"]
        return Matrix(np.ascontiguousarray(whole.reshape(len(whole), -1)))
    if family is Family.LORA:
        return _product(factors["up"], factors["down"], factors.get("mid"))
    if family is Family.LOHA:
        one, other = (
            _half(factors[f"w{n}_a"], factors[f"w{n}_b"], factors.get(f"t{n}")) for n in (1, 2)
        )
        return Hadamard(one, other)
    outer = (
        Matrix(_flat(factors["w1"]))
        if "w1" in factors
        else _product(factors["w1_a"], factors["w1_b"], None)
    )
    if "w2" in factors:
        return Kronecker(outer, Matrix(_flat(factors["w2"])))
    return Kronecker(outer, _half(factors["w2_a"], factors["w2_b"], factors.get("t2")))


def _product(up: NDArray[np.float64], down: NDArray[np.float64], mid: _Core) -> Update:
    """The product of two factors, through a core if there is one."""
    if up.size != up.shape[0] * up.shape[1]:
        raise ValueError(f"{up.shape} is not a matrix")
    if mid is None:
        return Product(Matrix(_flat(up)), Matrix(_flat(down)))
    return Product(Matrix(_flat(up)), _core(mid, down))


def _half(one: NDArray[np.float64], two: NDArray[np.float64], core: _Core) -> Update:
    """The product of two factors; with a core, the first is stored with its rank first."""
    return _product(one if core is None else one.T, two, core)


def _core(core: NDArray[np.float64], right: NDArray[np.float64]) -> Core:
    if right.size != right.shape[0] * right.shape[1]:
        raise ValueError(f"{right.shape} is not a matrix")
    return Core(core.reshape(*core.shape[:2], -1), _flat(right))


def _flat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values as a matrix: the first dimension by all others."""
    if values.ndim < 2:
        raise ValueError(f"{values.shape} is not a matrix")
    return np.ascontiguousarray(values.reshape(values.shape[0], -1))
