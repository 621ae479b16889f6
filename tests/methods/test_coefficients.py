"""Model Stock, SLERP, the Karcher mean and the geometric median against plain references."""

from __future__ import annotations

import math
from fractions import Fraction
from math import cos, fsum, pi, sin, sqrt

import numpy as np
import pytest
from method_work import combined, fine_tunes, settings

from soupctl.methods.angles import arc_cosine, cosine, sine
from soupctl.methods.geometric_median import median_coefficients
from soupctl.methods.karcher import karcher_coefficients
from soupctl.methods.model_stock import stock_ratio
from soupctl.methods.products import LANES, InnerProducts, square, times
from soupctl.methods.slerp import arc_coefficients

SHAPES = [(5,), (64, 65), (70_001,), (3, 5, 3, 3)]


def gram(*vectors):
    return np.array([[float(np.dot(x, y)) for y in vectors] for x in vectors])


@pytest.mark.parametrize("count", [1, 255, 256, 257, 65_536, 70_001])
def test_inner_products_do_not_depend_on_blocks(count):
    rows = [each[:count] for each in fine_tunes(1, 70_001)]
    whole, parts = InnerProducts(2), InnerProducts(2)
    whole.add(rows)
    for start in range(0, count, 3 * LANES):
        parts.add([row[start : start + 3 * LANES] for row in rows])

    assert np.array_equal(whole.matrix(), parts.matrix())
    np.testing.assert_allclose(whole.matrix(), gram(*rows), 1e-12)


def test_small_products_are_rounded_once_whatever_computes_matrices():
    matrix, ones = np.array([[1e16, 1.0, -1e16], [1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]), np.ones(3)

    assert [1.0, 3.0, 3.0] == list(times(matrix, ones))
    assert 7.0 == square(matrix, ones)
    assert 0.0 == square(-matrix, ones)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("models", [2, 3])
def test_model_stock_is_equation_4_of_its_paper(shape, models):
    base, *others = arrays = fine_tunes(models, *shape)
    # models that share a direction
    others = [each + 0.2 * np.cos(np.arange(base.size)).reshape(shape) for each in others]
    deltas = [(each - base).ravel() for each in others]
    cosines = [
        x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
        for n, x in enumerate(deltas)
        for y in deltas[n + 1 :]
    ]
    cosine = np.mean(cosines)
    ratio = models * cosine / (1 + (models - 1) * cosine)
    expected = ratio * np.mean(others, axis=0) + (1 - ratio) * base
    arrays = [base, *others]

    # the ratio is rounded to 24 binary digits
    largest = max(np.abs(each).max() for each in deltas)
    found = combined(settings("model-stock", models), arrays)
    np.testing.assert_allclose(found, expected, 1e-12, 2.0**-25 * largest)


@pytest.mark.parametrize(
    ("products", "ratio"),
    [
        # the same model twice: nothing of the base is left
        ([[1, 1], [1, 1]], Fraction(1)),
        ([[4, 1], [1, 1]], Fraction(2, 3)),
        ([[1, 0], [0, 1]], Fraction(0)),
        ([[1, -1], [-1, 1]], Fraction(0)),
        ([[0, 0], [0, 1]], Fraction(0)),
    ],
)
def test_the_ratio_of_model_stock_is_known_for_known_angles(products, ratio):
    found = stock_ratio(np.array(products, np.float64))

    assert abs(found - ratio) <= Fraction(1, 2**25)
    assert 2**24 % found.denominator == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [Fraction(0, 1), Fraction(1, 4), Fraction(1, 2)])
def test_slerp_follows_the_arc_of_shoemake(shape, share):
    first, _ = fine_tunes(1, *shape)
    second, _ = fine_tunes(1, *shape, seed=9)
    x, y = first.ravel(), second.ravel()
    angle = np.arccos(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))
    t = float(share)
    expected = (sin((1 - t) * angle) * first + sin(t * angle) * second) / sin(angle)
    weights = (1 - share, share) if share else (Fraction(10**9), Fraction(1))

    found = combined(settings("slerp", weights=weights), [first, second])

    np.testing.assert_allclose(found, expected, 1e-12 if share else 1e-6, 1e-12 if share else 1e-6)


def test_slerp_between_unit_vectors_stays_on_the_circle():
    found = arc_coefficients(np.array([[1.0, 0.0], [0.0, 1.0]]), Fraction(1, 3))

    np.testing.assert_allclose(found, (cos(pi / 6), sin(pi / 6)), 1e-15)


@pytest.mark.parametrize(
    "products", [[[1, 0.9999], [0.9999, 1]], [[1, -1], [-1, 1]], [[0, 0], [0, 1]]]
)
def test_slerp_is_straight_where_there_is_no_arc(products):
    assert (0.75, 0.25) == arc_coefficients(np.array(products, np.float64), Fraction(1, 4))


@pytest.mark.parametrize("shape", SHAPES)
def test_at_the_karcher_mean_the_directions_to_the_models_cancel(shape):
    arrays = [fine_tunes(1, *shape, seed=seed)[1] + 0.5 for seed in range(3)]
    weights = [0.5, 0.25, 0.25]
    asked = settings("karcher", weights=(Fraction(2), Fraction(1), Fraction(1)))

    found = combined(asked, arrays).ravel()

    lengths = [float(np.linalg.norm(each)) for each in arrays]
    mean_length = sum(weight * length for weight, length in zip(weights, lengths, strict=True))
    np.testing.assert_allclose(np.linalg.norm(found), mean_length, 1e-12)
    point = found / mean_length
    logarithms = []
    for each, length in zip(arrays, lengths, strict=True):
        unit = each.ravel() / length
        cosine = point @ unit
        angle = np.arccos(np.clip(cosine, -1, 1))
        logarithms.append(angle / np.sin(angle) * (unit - cosine * point))
    step = sum(weight * each for weight, each in zip(weights, logarithms, strict=True))
    assert np.linalg.norm(step) < 1e-10


def test_the_karcher_mean_of_two_is_the_middle_of_their_arc():
    found = karcher_coefficients(np.array([[1.0, 0.0], [0.0, 1.0]]), [0.5, 0.5])

    np.testing.assert_allclose(found, [sqrt(0.5), sqrt(0.5)], 1e-12)


@pytest.mark.parametrize("products", [[[0, 0], [0, 4]], [[4, 0], [0, 0]]])
def test_a_tensor_of_zeros_has_no_direction_in_the_karcher_mean(products):
    found = karcher_coefficients(np.array(products, np.float64), [0.5, 0.5])

    # the mean of the lengths 0 and 2 is 1
    assert 0.5 == max(found)
    assert 0.0 == min(found)


def test_opposite_models_have_one_of_them_as_their_karcher_mean():
    found = karcher_coefficients(np.array([[1.0, -1.0], [-1.0, 1.0]]), [0.5, 0.5])

    assert [1.0, 0.0] == found


@pytest.mark.parametrize("shape", SHAPES)
def test_no_point_near_the_geometric_median_is_closer_to_the_models(shape):
    arrays = [fine_tunes(1, *shape, seed=seed)[1] for seed in range(4)]
    weights = [0.4, 0.2, 0.2, 0.2]
    asked = settings("geometric-median", weights=tuple(map(Fraction, (2, 1, 1, 1))))

    def distance(point):
        pairs = zip(weights, arrays, strict=True)
        return sum(weight * np.linalg.norm(point - each) for weight, each in pairs)

    found = combined(asked, arrays)

    draw = np.random.default_rng(5)
    for size in (1, 0.1, 0.01, 1e-4):
        for _ in range(5):
            other = found + draw.normal(0, size, shape)
            assert distance(found) <= distance(other) * (1 + 1e-12)
    # the gradient vanishes
    pairs = zip(weights, (each - found for each in arrays), strict=True)
    gradient = sum(weight * each / np.linalg.norm(each) for weight, each in pairs)
    assert np.linalg.norm(gradient) < 1e-9


def test_a_model_that_outweighs_the_others_is_the_geometric_median():
    # the differences from the first of points at 0, 1 and 10 on a line
    products = gram(np.array([1.0]), np.array([10.0]))

    found = median_coefficients(products, [0.6, 0.2, 0.2])

    np.testing.assert_allclose(found, [1, 0, 0], atol=1e-6)


def test_the_median_on_a_line_is_the_middle_point():
    products = gram(np.array([1.0]), np.array([10.0]))

    found = median_coefficients(products, [1 / 3, 1 / 3, 1 / 3])

    assert abs(found[1] + 10 * found[2] - 1) < 1e-6


def test_models_that_are_one_are_their_own_median():
    assert [0.5, 0.5] == median_coefficients(np.zeros((1, 1)), [0.5, 0.5])


def test_products_are_added_in_the_order_of_their_elements():
    generator = np.random.default_rng(3)
    found = InnerProducts(1)
    lanes = [0.0] * LANES
    for count in (3 * LANES, 5 * LANES, 2 * LANES + 7):
        row = generator.normal(size=count) * 10.0 ** generator.integers(-9, 9, count)
        found.add([row])
        for element, value in enumerate(row):
            lanes[element % LANES] += float(value * value)

    assert fsum(lanes) == found.matrix()[0, 0]


ANGLES = (0.0, 1e-12, 0.03, 0.5, 1.0, 1.5707963267948966, 2.5, 3.141592653589793)


@pytest.mark.parametrize(
    ("ours", "library", "values"),
    [
        (sine, math.sin, ANGLES[:-1]),
        (cosine, math.cos, (*ANGLES[:5], 2.5, 3.141592653589793)),
        (arc_cosine, math.acos, (-1.0, -0.75, -1e-9, 0.0, 1e-9, 0.3, 0.9995, 1.0 - 2**-53, 1.0)),
    ],
)
def test_angles_are_those_of_the_library_but_for_its_last_bit(ours, library, values):
    for value in (*values, *np.random.default_rng(5).uniform(-1, 1, 200)):
        expected = library(float(value))
        assert abs(ours(float(value)) - expected) <= math.ulp(expected), value


BITS = [
    "0x1.dd343a21a55c4p-1",
    "0x1.730de943b79d4p-2",
    "0x1.787b22ce3f590p+0",
    "0x1.921fb54442d18p+1",
]


def test_angles_have_the_same_bits_everywhere():
    bits = [sine(1.2).hex(), cosine(1.2).hex(), arc_cosine(0.1).hex(), arc_cosine(-1.0).hex()]

    assert BITS == bits
