"""Weights of ingredients from their training records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import isqrt
from pathlib import Path

from ..checkpoints.open import STREAM, find_input, open_input
from ..choices import WeightBy
from ..errors import Issue, LedgerError, UsageError
from ..ledger.read import read_ledger
from .ingredients import Ingredient, as_ingredient

ROOT_UNIT = 10**6
"""Square roots are rounded to a multiple of one over this, so that weights stay short."""


def weighted_by(
    ingredients: Sequence[Ingredient | str | Path],
    by: WeightBy,
    *,
    component: str | None = None,
    variant: str | None = None,
) -> list[Ingredient]:
    """The ingredients, each with a weight from its training record.

    Raises UsageError for a stream or an explicit weight, LedgerError for ingredients without such a
    record.
    """
    asked = [as_ingredient(each) for each in ingredients]
    for each in asked:
        if each.path == STREAM:
            raise UsageError("--weight-by needs files; standard input is read once")
        if each.weight != 1:
            what = "weights are given twice, with --weight-by and one by one"
            raise UsageError(what, advice="use one of them")
    found = [_samples(each, component, variant) for each in asked]
    issues = [
        Issue(
            "has no single training record",
            each.path,
            advice="-w gives weights instead of --weight-by",
        )
        for each, samples in zip(asked, found, strict=True)
        if samples is None
    ]
    if issues:
        raise LedgerError.collected(issues)
    return [
        replace(each, weight=Fraction(samples) if by is WeightBy.SAMPLES else _root(samples))
        for each, samples in zip(asked, found, strict=True)
        if samples is not None
    ]


def _root(samples: int) -> Fraction:
    """The square root of a number of images, rounded to six decimals."""
    # half of the root of four times the number is rounded by adding one before the division
    return Fraction((isqrt(4 * samples * ROOT_UNIT**2) + 1) // 2, ROOT_UNIT)


def _samples(ingredient: Ingredient, component: str | None, variant: str | None) -> int | None:
    """Images that an ingredient was trained on; None if its components differ in their number."""
    counts = set()
    for each in find_input(ingredient.path, component, variant).components:
        with open_input(each) as checkpoint:
            ledger = read_ledger(checkpoint)
            if ledger is not None and ledger.training is not None:
                counts.add(ledger.training.samples)
    return counts.pop() if len(counts) == 1 else None
