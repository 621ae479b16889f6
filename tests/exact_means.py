"""Weighted means and sums as fractions, rounded once: what every linear command must give."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from deltas import numbers, rounded

from soupctl.format.dtypes import DType, narrowest

Weighted = tuple[Fraction | int, Sequence[Fraction]]
"""Values of one tensor, and what they are multiplied by."""


def combined(rows: Sequence[Weighted]) -> list[Fraction]:
    """The sums of values times their weights, element by element."""
    columns = zip(*(values for _, values in rows), strict=True)
    weights = [weight for weight, _ in rows]
    return [
        sum((w * x for w, x in zip(weights, column, strict=True)), Fraction(0))
        for column in columns
    ]


def mean_bytes(found: Sequence[tuple[Fraction | int, DType, bytes]]) -> tuple[str, bytes] | None:
    """The dtype and bytes of a mean of weighted floats; None if an element is out of range."""
    total = sum(weight for weight, _, _ in found)
    exact = combined([(weight / total, numbers(dtype, data)) for weight, dtype, data in found])
    out = narrowest(frozenset(dtype for _, dtype, _ in found))
    data = rounded(exact, out)
    return None if data is None else (out.value, data)
