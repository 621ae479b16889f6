"""TIES, DARE, DELLA and Model Breadcrumbs against plain references from their papers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from method_work import combined, fine_tunes, settings

from soupctl.errors import UsageError
from soupctl.methods.random_numbers import ElementNumbers

NAME = "layer.weight"
SHAPES = [(7,), (64, 65), (3, 5, 3, 3), (70_001,), (1,), (40, 3000)]
DENSITY = Fraction(1, 5)


def top(values, count):
    """The mask of the largest magnitudes: of equal ones, the first."""
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-np.abs(values.ravel()), kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def drawn(model, shape):
    count = int(np.prod(shape))
    return ElementNumbers(3, NAME, model).shares(0, count).reshape(shape)


def elected_mean(vectors):
    """Algorithm 1 of TIES, after trimming: elect signs, then the mean of those that agree."""
    signs = np.sign(sum(vectors))
    total, count = np.zeros(vectors[0].shape), np.zeros(vectors[0].shape)
    for vector in vectors:
        agrees = (np.sign(vector) == signs) & (signs != 0)
        total += np.where(agrees, vector, 0)
        count += agrees
    return np.where(count > 0, total / np.maximum(count, 1), 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_ties_is_algorithm_1_of_its_paper(shape):
    base, *models = arrays = fine_tunes(3, *shape)
    kept = max(1, int(base.size * 0.2 + 1e-9))
    vectors = [np.where(top(each - base, kept), each - base, 0) for each in models]
    expected = base + 0.5 * elected_mean(vectors)
    asked = settings(
        "ties", densities=(DENSITY,) * 3, scale=Fraction(1, 2), elect=True, normalize=True
    )

    assert np.array_equal(expected, combined(asked, arrays))


def test_ties_with_weights_is_the_weighted_mean_of_those_that_agree():
    base = np.zeros(4)
    models = [np.array([4.0, 4, 1, -1]), np.array([-1.0, -9, 2, 1]), np.array([2.0, 1, 0, 0])]
    weights = (Fraction(1), Fraction(2), Fraction(1))
    asked = settings(
        "ties", weights=weights, densities=(Fraction(1),) * 3, elect=True, normalize=True
    )

    # sums: 4 - 2 + 2, 4 - 18 + 1, 1 + 4, -1 + 2
    assert [3, -9, 5 / 3, 1] == list(combined(asked, [base, *models]))


def test_where_no_sign_is_elected_the_base_stays():
    asked = settings("ties", 2, densities=(Fraction(1),) * 2, elect=True, normalize=True)

    assert [5.0] == list(combined(asked, [np.array([5.0]), np.array([6.0]), np.array([4.0])]))


@pytest.mark.parametrize("shape", SHAPES)
def test_dare_drops_at_random_and_rescales_as_its_paper_says(shape):
    base, *models = arrays = fine_tunes(2, *shape)
    vectors = [
        np.where(drawn(n, shape) < 0.2, (each - base) / 0.2, 0) for n, each in enumerate(models)
    ]
    asked = settings("dare", 2, densities=(DENSITY,) * 2, seed=3)

    assert np.array_equal(base + (vectors[0] + vectors[1]), combined(asked, arrays))


def test_dare_keeps_the_mean_of_differences():
    base, model = np.zeros(400_000), np.ones(400_000)
    asked = settings("dare", 1, densities=(DENSITY,))
    found = combined(asked, [base, model])

    assert {0.0, 5.0} == set(found)
    # six standard deviations of the mean of 400,000 Bernoulli variables
    assert abs(found.mean() - 1) < 6 * 5 * (0.2 * 0.8 / 400_000) ** 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_della_drops_by_rank_in_each_row_as_its_paper_says(shape):
    base, *models = arrays = fine_tunes(2, *shape)
    row = base.size // shape[0] if len(shape) > 1 else base.size
    vectors = []
    for n, each in enumerate(models):
        delta = (each - base).reshape(-1, row)
        ranks = np.array([np.argsort(np.argsort(-np.abs(line), kind="stable")) for line in delta])
        drop = 0.8 - 0.05 + 0.1 * ranks / row
        kept = drawn(n, shape).reshape(-1, row) < 1 - drop
        vectors.append(np.where(kept, delta / (1 - drop), 0).reshape(shape))
    asked = settings(
        "della",
        2,
        densities=(DENSITY,) * 2,
        epsilon=Fraction(1, 10),
        seed=3,
        elect=True,
        normalize=True,
    )

    # both round a few times, which is at most 2**-53 of magnitudes below 8 each time
    expected = base + elected_mean(vectors)
    np.testing.assert_allclose(combined(asked, arrays), expected, 0, 8 * 8 * 2.0**-53)


def test_della_keeps_large_differences_more_often():
    draw = np.random.default_rng(0)
    model = draw.normal(0, 1, (100, 2000))
    asked = settings("della", 1, densities=(Fraction(1, 2),), epsilon=Fraction(4, 5))
    kept = combined(asked, [np.zeros(model.shape), model]) != 0
    order = np.argsort(-np.abs(model), axis=1)
    largest, smallest = (
        np.take_along_axis(kept, some, axis=1).mean() for some in (order[:, :200], order[:, -200:])
    )

    # the mean chances of the first and the last tenth of ranks
    assert abs(largest - 0.86) < 0.02
    assert abs(smallest - 0.14) < 0.02


@pytest.mark.parametrize("shape", SHAPES)
def test_breadcrumbs_leaves_out_both_ends_of_the_magnitudes(shape):
    base, *models = arrays = fine_tunes(2, *shape)
    kept = max(1, int(base.size * 0.2 + 1e-9))
    outliers = min(int(base.size * 0.05 + 1e-9), base.size - kept)
    vectors = []
    for each in models:
        delta = each - base
        mask = top(delta, outliers + kept) & ~top(delta, outliers)
        assert kept == mask.sum()
        vectors.append(np.where(mask, delta, 0))
    asked = settings("breadcrumbs", 2, densities=(DENSITY,) * 2, gamma=Fraction(1, 20))

    assert np.array_equal(base + (vectors[0] + vectors[1]), combined(asked, arrays))


def test_a_density_of_1_keeps_all_differences():
    base, model = fine_tunes(1, 50, 60)
    for method in ("ties", "dare", "breadcrumbs"):
        asked = settings(method, 1, densities=(Fraction(1),), gamma=Fraction(1, 10))

        assert np.array_equal(base + (model - base), combined(asked, [base, model]))


def test_each_model_has_a_density_of_its_own():
    base, *models = fine_tunes(2, 1000)
    asked = settings("breadcrumbs", 2, densities=(Fraction(1, 1000), Fraction(1)))
    found = combined(asked, [base, *models]) - base - (models[1] - base)

    assert np.count_nonzero(np.abs(found) > 1e-12) == 1


def test_settings_beside_weights_are_checked():
    for wrong in (
        {"densities": (Fraction(0),) * 3},
        {"densities": (Fraction(1, 2),) * 2},
        {"densities": (Fraction(1, 2),) * 3, "weights": (Fraction(1), Fraction(-1), Fraction(1))},
        {"densities": (Fraction(1, 2),) * 3, "seed": -1},
        {"densities": (Fraction(1, 2),) * 3, "epsilon": Fraction(3, 2)},
        {"densities": (Fraction(1, 2),) * 3, "gamma": Fraction(1)},
    ):
        with pytest.raises(UsageError):
            settings("ties", **wrong)
