"""Figures of two tensors are those of their exact values, in every dtype and at every size."""

import math
import random

import pytest
import torch
from runs import finite, integers, pack, usual

from soupctl.engines.reference import encode
from soupctl.format.dtypes import FLOATS, DType
from soupctl.kernels.gpu import reference, statistics


def figures(formats, sources):
    """The figures by kernel and by reference."""
    one, other = (
        integers(source, dtype.bits // 8) for source, dtype in zip(sources, formats, strict=True)
    )
    names = tuple(dtype.value for dtype in formats)
    return (
        statistics.launch_statistics(names, one, other).tolist(),
        reference.statistics(names, one, other).tolist(),
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [1, 1000, 1024, 3001])
def test_small_integers_give_exact_figures(dtype, count):
    numbers = random.Random(count)
    left = [numbers.randint(-8, 8) for _ in range(count)]
    right = [numbers.randint(-8, 8) for _ in range(count)]
    sources = [pack(dtype, [encode(value, dtype) for value in column]) for column in (left, right)]
    pairs = list(zip(left, right, strict=True))
    expected = [
        sum((a - b) ** 2 for a, b in pairs),
        sum(a * b for a, b in pairs),
        sum(a * a for a in left),
        sum(b * b for b in right),
        max(abs(a - b) for a, b in pairs),
        0,
    ]

    assert (expected, expected) == figures((dtype, dtype), sources)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nonfinite_elements_are_counted_and_left_out(dtype):
    one, two = encode(1, dtype), encode(2, dtype)
    nan = dtype.float_format.quiet_nan
    infinity = encode(float("inf"), dtype) or nan
    sources = [pack(dtype, [one, nan, two, one]), pack(dtype, [two, one, infinity, one])]

    expected = [1, 3, 2, 5, 1, 2]
    assert (expected, expected) == figures((dtype, dtype), sources)


@pytest.mark.parametrize("formats", [(DType.F16, DType.F32), (DType.BF16, DType.F8_E4M3)])
def test_figures_are_within_the_bound_of_their_sums(formats):
    """A product or a square takes one rounding, a difference one more, n terms n - 1 additions."""
    count = 5000
    sources = [usual(dtype, count, seed) for seed, dtype in enumerate(formats)]
    left, right = (
        reference.widen(integers(source, dtype.bits // 8), dtype.value).tolist()
        for source, dtype in zip(sources, formats, strict=True)
    )
    terms = [
        [(a - b) ** 2 for a, b in zip(left, right, strict=True)],
        [a * b for a, b in zip(left, right, strict=True)],
        [a * a for a in left],
        [b * b for b in right],
    ]

    for found in figures(formats, sources):
        for value, column in zip(found, terms, strict=False):
            bound = (count + 3) * 2.0**-53 * math.fsum(map(abs, column))
            assert abs(value - math.fsum(column)) <= bound


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_tensor_is_no_distance_from_itself(dtype):
    source = finite(dtype, 2000, 0)
    for found in figures((dtype, dtype), [source, source]):
        assert (0, 0, 0) == (found[0], found[4], found[5])
        assert found[1] == found[2] == found[3]


def test_nothing_has_no_figures():
    empty = torch.empty(0, dtype=torch.int16)

    assert [0] * 6 == statistics.launch_statistics(("F16", "BF16"), empty, empty).tolist()
    assert [0] * 6 == reference.statistics(("F16", "BF16"), empty, empty).tolist()
