"""Sums over pairs of floats equal those of fractions, for every dtype."""

from __future__ import annotations

from fractions import Fraction
from math import inf, isnan, nan

import numpy as np
import pytest
from deltas import floats, numbers

from soupctl.engines.comparison import delta_products, moments
from soupctl.engines.moments import joined, total
from soupctl.format.dtypes import FLOATS, DType

COUNT = 75
NEAR = 1e-12


PAIRS = [*zip(FLOATS, FLOATS, strict=True), (DType.F16, DType.BF16), (DType.F32, DType.F16)]
"""Each dtype with itself, and two that occur together; any other pair is compiled the same way."""


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda dtype: dtype.value)
def test_the_sums_are_those_of_fractions(one, other):
    if one is DType.F64:
        # squares of its largest values are beyond its own range
        pairs = [np.random.default_rng(seed).normal(size=COUNT).tobytes() for seed in (1, 2)]
    else:
        pairs = [floats(dtype, COUNT, place) for place, dtype in enumerate((one, other))]
    a, b = (numbers(dtype, data) for dtype, data in zip((one, other), pairs, strict=True))

    found = moments(memoryview(pairs[0]), memoryview(pairs[1]), (one, other))

    assert (COUNT, 0) == (found.elements, found.nonfinite)
    assert sum(x != y for x, y in zip(a, b, strict=True)) == found.differing
    for expected, sum_ in (
        (sum(x * x for x in a), found.one),
        (sum(y * y for y in b), found.other),
        (sum((y - x) ** 2 for x, y in zip(a, b, strict=True)), found.change),
    ):
        assert abs(Fraction(sum_) - expected) <= NEAR * expected
    size = sum(abs(x * y) for x, y in zip(a, b, strict=True))
    expected = sum(x * y for x, y in zip(a, b, strict=True))
    assert abs(Fraction(found.product) - expected) <= NEAR * size
    largest = max(abs(y - x) for x, y in zip(a, b, strict=True))
    assert abs(Fraction(found.largest) - largest) <= NEAR * largest


def test_elements_that_are_not_finite_are_counted_and_left_out():
    one = np.array([1, nan, inf, inf, 2, nan], "<f4")
    other = np.array([3, nan, inf, -inf, nan, 1], "<f4")

    found = moments(one.data.cast("B"), other.data.cast("B"), (DType.F32, DType.F32))

    assert (6, 4, 5) == (found.elements, found.differing, found.nonfinite)
    assert (1, 9, 3, 4, 2) == (found.one, found.other, found.product, found.change, found.largest)


def test_parts_together_have_the_sums_of_the_whole():
    one, other = (np.random.default_rng(seed).normal(size=200) for seed in (1, 2))
    dtypes = DType.F64, DType.F64
    cuts = [(0, 1), (1, 90), (90, 200)]

    whole = moments(one.data.cast("B"), other.data.cast("B"), dtypes)
    parts = joined(
        moments(one[a:b].data.cast("B"), other[a:b].data.cast("B"), dtypes) for a, b in cuts
    )

    assert (whole.elements, whole.differing) == (parts.elements, parts.differing)
    assert whole.largest == parts.largest
    assert whole.cosine == pytest.approx(parts.cosine, rel=NEAR)
    assert whole.relative_change == pytest.approx(parts.relative_change, rel=NEAR)


@pytest.mark.parametrize(
    ("one", "other"), [(1e200, 2e200), (1e200, -2e200), (1e154, 1.3e154), (0.0, 1.0)]
)
def test_figures_beyond_the_range_of_float64_are_none(one, other):
    pair = [np.array([each, each]) for each in (one, other)]

    found = joined([moments(*(each.data.cast("B") for each in pair), (DType.F64, DType.F64))] * 3)

    assert (None, None) == (found.relative_change, found.cosine)


def test_sums_that_overflow_on_the_way_or_are_infinite_with_both_signs_are_nan():
    assert isnan(total([1.7e308, 1.7e308]))
    assert isnan(total([inf, -inf]))
    assert inf == total([inf, 1.0])


def test_the_products_of_deltas_and_their_conflicts_are_counted():
    base = np.array([1.0, 2.0, 3.0, 4.0, nan])
    others = np.array([[2.0, 2.0, 1.0, 5.0, 0.0], [0.0, 2.0, 2.0, 4.0, 0.0]])

    found = delta_products(base, others)

    assert [[6, 1], [1, 2]] == found.products.tolist()
    assert (30, 1) == (found.base, found.nonfinite)
    # the first is raised and lowered, the third lowered by both, the fourth changed by one
    assert (1, 2) == (found.conflicts, found.changed)
