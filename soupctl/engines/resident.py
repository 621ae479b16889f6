"""Averages of PyTorch tensors in memory, in place: for greedy soups, moving averages, training.

Rule 1: every function takes sequences of tensors, or mappings such as state dicts. Corresponding
tensors have equal shapes and the same device; all dtypes are floats, and may differ.
Rule 2: a mean is exact and rounded once, with the same bits on every device.
Rule 3: tensors that are changed in place must be contiguous; no gradient is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import Issue, MismatchError, SoupError, UsageError
from ..frozen import frozen
from . import operators
from .operators import DTYPES
from .splitting import LARGEST_WEIGHT

__all__ = ["Figures", "KeptSum", "add_", "average_", "compare", "subtract_"]

Tensors = Sequence[Tensor] | Mapping[str, Tensor]


def average_(out: Tensors, ingredients: Sequence[Tensors], weights: Sequence[int]) -> None:
    """Write the weighted mean of `ingredients` into `out`, which may be one of them.

    `weights` are integers, none zero, with a positive total; neither may exceed 2**62. Raises
    UsageError, and MismatchError for tensors that do not fit, before anything is changed;
    InputError for NaN or infinity, and MismatchError for a mean that its dtype cannot hold, after
    which `out` is undefined.
    """
    total = require_weights(weights)
    if len(ingredients) != len(weights):
        raise UsageError(f"{len(weights)} weights for {len(ingredients)} ingredients")
    rows: list[Tensor] = []
    for ingredient in ingredients:
        rows.extend(matched(out, ingredient))
    try:
        operators.average_(changeable(out), rows, list(weights), total)
    except SoupError as error:
        raise labelled(error, named(out)) from None


def add_(soup: Tensors, part: Tensors, *, total: int, weight: int = 1) -> None:
    """Add `part` with `weight` to `soup`, a rounded mean of total weight `total`, in place.

    The result is the exact mean of the rounded `soup` and `part`; use `KeptSum` to avoid that
    rounding. A moving average with decay 0.999 is `total=999, weight=1` at each step.
    Raises what `average_` raises, `soup` then being undefined.
    """
    average_(soup, [soup, part], [total, weight])


def subtract_(soup: Tensors, part: Tensors, *, total: int, weight: int = 1) -> None:
    """Remove `part` with `weight` from `soup`, a rounded mean of total weight `total`, in place.

    About a third of 16-bit elements end up off by one rounding, a trace of the removed tensors;
    `KeptSum` leaves none. Raises what `average_` raises, `soup` then being undefined.
    """
    average_(soup, [soup, part], [total, -weight])


class KeptSum:
    """Exact weighted sums in memory, to which tensors are added and from which they are removed.

    Each sum takes `planes` times 8 bytes: one float64 holds any sum of fp16 with weights up to
    2**13 together, and most of bfloat16 and float32; two hold nearly all there are.
    """

    def __init__(self, like: Tensors, planes: int = 1) -> None:
        if planes not in (1, 2):
            raise UsageError(f"planes must be 1 or 2, not {planes}")
        self._like = like
        self.total = 0
        """Sum of the weights that were added."""
        self.planes = [
            torch.zeros(planes, tensor.numel(), dtype=torch.float64, device=tensor.device)
            for tensor in listed(like)
        ]

    def add_(self, part: Tensors, weight: int = 1, *, soup: Tensors | None = None) -> None:
        """Add `part` with `weight`; `soup`, if given, receives the rounded mean of the new sum.

        Raises InputError for NaN or infinity, LimitError where the planes do not hold the new sum,
        and MismatchError where its dtype does not hold a mean; the sum is then what it was, and so
        is `soup` if it was the sum's mean.
        """
        total = self.total + weight
        if not 0 < abs(weight) <= LARGEST_WEIGHT or abs(total) > LARGEST_WEIGHT:
            raise UsageError(f"weight {weight} or total {total} is zero or beyond 2**62")
        if soup is not None and total <= 0:
            raise UsageError(f"the total weight would be {total}: it must be positive")
        rows = matched(self._like, part)
        soups: list[Tensor] = []
        if soup is not None:
            matched(self._like, soup)
            soups = changeable(soup)
        try:
            operators.add_to_sums_(self.planes, rows, weight, total, soups)
        except SoupError as error:
            raise labelled(error, named(self._like)) from None
        self.total = total

    def subtract_(self, part: Tensors, weight: int = 1, *, soup: Tensors | None = None) -> None:
        """Remove `part` with `weight`, leaving no trace of it; see `add_`."""
        self.add_(part, -weight, soup=soup)


@frozen
class Figures:
    """Statistics of two tensors, over the elements that are finite in both."""

    distance_squared: float
    dot: float
    one_squared: float
    other_squared: float
    largest_difference: float
    nonfinite: int
    """Number of elements that are not finite in at least one of the two."""


def compare(one: Tensor, other: Tensor) -> Figures:
    """Statistics of two tensors of equal shape, in float64, from one pass over both.

    A sum of n terms is off by at most n * 2**-53 of the sum of their magnitudes.
    """
    matched([one], [other])
    found = operators.figures(one, other).tolist()
    return Figures(found[0], found[1], found[2], found[3], found[4], int(found[5]))


def require_weights(weights: Sequence[int]) -> int:
    """The sum of `weights`; UsageError unless it and each weight are in range."""
    total = sum(weights)
    if any(not 0 < abs(weight) <= LARGEST_WEIGHT for weight in weights):
        raise UsageError("weights must be integers other than zero, of magnitude at most 2**62")
    if not 0 < total <= LARGEST_WEIGHT:
        raise UsageError(f"the weights add up to {total}: the total must be between 1 and 2**62")
    return total


def listed(tensors: Tensors) -> list[Tensor]:
    """The tensors in order; those of a mapping sorted by name."""
    if isinstance(tensors, Mapping):
        return [tensors[name] for name in sorted(tensors)]
    return list(tensors)


def named(tensors: Tensors) -> list[str]:
    """The name of each tensor in errors."""
    if isinstance(tensors, Mapping):
        return sorted(tensors)
    return [str(position) for position in range(len(tensors))]


def matched(out: Tensors, other: Tensors) -> list[Tensor]:
    """The tensors of `other` in the order of `out`'s; MismatchError unless they fit."""
    names = named(out)
    if names != named(other):
        raise MismatchError("the tensors differ in names or number")
    rows = listed(other)
    # a loop, because torch.compile does not support assignment expressions
    issues = []
    for name, target, row in zip(names, listed(out), rows, strict=True):
        problem = misfit(target, row)
        if problem:
            issues.append(Issue(problem, tensor=name))
    if issues:
        raise MismatchError.collected(issues)
    return rows


def misfit(target: Tensor, row: Tensor) -> str:
    """The reason why two tensors cannot be combined; empty if they can."""
    if row.shape != target.shape:
        return f"has shape {tuple(row.shape)}, not {tuple(target.shape)}"
    if row.device != target.device:
        return f"is on {row.device}, not on {target.device}"
    if row.dtype not in DTYPES or target.dtype not in DTYPES:
        return f"is {row.dtype} for {target.dtype}, and only floats are averaged"
    return ""


def labelled(error: SoupError, names: Sequence[str]) -> SoupError:
    """The error, with positions replaced by names."""
    issues = [
        replace(issue, tensor=names[int(issue.tensor)]) for issue in error.issues if issue.tensor
    ]
    return type(error).collected(issues)


def changeable(tensors: Tensors) -> list[Tensor]:
    """The tensors in order, without gradients; MismatchError if one is not contiguous."""
    issues = [
        Issue("is not contiguous, so it cannot be changed in place", tensor=name)
        for name, tensor in zip(named(tensors), listed(tensors), strict=True)
        if not tensor.is_contiguous()
    ]
    if issues:
        raise MismatchError.collected(issues)
    return [tensor.detach() for tensor in listed(tensors)]
