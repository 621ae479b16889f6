"""Figures over several seeds, and tables of them in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 0.975 quantiles of Student's t with 1 to 9 degrees of freedom."""


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of two values or more."""
    return QUANTILES[len(values) - 2] * stdev(values) / sqrt(len(values))


def figure(values: Sequence[float], digits: int = 2, *, sign: bool = False) -> str:
    """Mean, interval and number of the values."""
    if not values:
        return ""
    plus = "+" if sign else ""
    mean = f"{fmean(values):{plus}.{digits}f}"
    if len(values) == 1:
        return mean
    half = half_width(values)
    low, high = fmean(values) - half, fmean(values) + half
    return f"{mean} ({low:{plus}.{digits}f} to {high:{plus}.{digits}f}; n={len(values)})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return ["| " + " | ".join(each) + " |" for each in lines] + [""]


def percent(arm: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    """The change of a loss in per cent of the base's."""
    return 100 * (arm["loss"] / base["loss"] - 1)
