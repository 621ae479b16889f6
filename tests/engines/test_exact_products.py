"""Products of matrices as planes: exact for any factors that few slices hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from soupctl.engines.exact_products import MOST_SLICES, exact_product, slice_bits, slices_of
from soupctl.engines.updates import add_product


def drawn(dtype: str, shape: tuple[int, int], spread: int, seed: int) -> np.ndarray:
    """Values of a dtype whose exponents differ by up to `spread`, zeros among them."""
    random = np.random.default_rng(seed)
    values = random.normal(0, 1, shape) * 2.0 ** random.integers(-spread, 1, shape)
    values[random.random(shape) < 0.1] = 0.0
    return values.astype(dtype).astype(np.float64)


@pytest.mark.parametrize("inner", [1, 2, 3, 64, 65, 300])
@pytest.mark.parametrize(("dtype", "spread"), [("f2", 20), ("f4", 0), ("f4", 25)])
def test_the_planes_of_a_product_add_up_to_it(dtype, spread, inner):
    left, right = drawn(dtype, (3, inner), spread, 1), drawn(dtype, (inner, 4), spread, 2)
    # sums that cancel, and the largest products there are
    left[0], right[:, 0] = 1 - 2.0**-24, 1 - 2.0**-24
    bits = slice_bits(inner)
    ours, theirs = slices_of(left, 1, bits), slices_of(right, 0, bits)
    assert ours is not None
    assert theirs is not None

    planes = exact_product(ours, theirs, (3, 4))

    for row in range(3):
        for column in range(4):
            pairs = zip(left[row], right[:, column], strict=True)
            exact = sum(Fraction(a) * Fraction(b) for a, b in pairs)
            assert exact == sum(map(Fraction, planes[:, row, column])), (row, column)


def test_zeros_have_no_slices_and_subnormals_are_kept():
    assert slices_of(np.zeros((2, 3)), 1, 20) == []
    tiny = np.array([[2.0**-149, 3 * 2.0**-149]])
    (found,) = slices_of(tiny, 1, 23) or ()
    assert (found == tiny).all()


def test_values_of_very_different_magnitudes_are_not_sliced():
    bits = slice_bits(64)
    values = np.array([[2.0**60, 2.0 ** (60 - bits * (MOST_SLICES + 1))]])
    assert slices_of(values, 1, bits) is None
    assert slices_of(values.T, 1, bits) is not None


@pytest.mark.parametrize("columns", [1, 7, 300, 512])
@pytest.mark.parametrize("inner", [1, 3, 4, 9])
def test_products_are_added_for_any_number_of_rows(columns, inner):
    random = np.random.default_rng(0)
    for rows in range(1, 10):
        # whole numbers, which float64 multiplies and adds exactly in any order
        left, right = (
            random.integers(-99, 99, (rows, inner)),
            random.integers(-99, 99, (inner, columns)),
        )
        out = np.ones((rows, columns))

        add_product(left.astype(float), right.astype(float), out)

        assert np.array_equal(1 + left @ right, out), rows
