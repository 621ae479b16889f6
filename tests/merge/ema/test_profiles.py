"""Profiles of averages over time, against sums over every step and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from soupctl.errors import UsageError
from soupctl.merge.ema.profiles import (
    UNIFORM,
    PowerProfile,
    decay_profile,
    fit,
    gamma_of,
    inner,
    snapshot_profiles,
)


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.25, 0.72)])
def test_gamma_is_that_of_the_paper_for_its_widths(sigma_rel, gamma):
    assert gamma == pytest.approx(gamma_of(sigma_rel), abs=0.005)


@pytest.mark.parametrize("sigma_rel", [0.001, 0.01, 0.1, 0.2, UNIFORM])
def test_sigma_rel_is_the_standard_deviation_of_the_profile(sigma_rel):
    gamma = gamma_of(sigma_rel)

    assert gamma >= 0
    assert sigma_rel == pytest.approx(
        math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))), rel=1e-9
    )


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.3, 1e9, 1e-9])
def test_a_width_that_no_profile_has_is_refused(sigma_rel):
    with pytest.raises(UsageError, match="sigma_rel"):
        gamma_of(sigma_rel)


@pytest.mark.parametrize("end", [(100, 70), (70, 100), (100, 100)])
def test_the_product_of_two_power_functions_is_the_integral(end):
    first, second = PowerProfile(end[0], 6.94), PowerProfile(end[1], 16.97)
    times = np.linspace(0, min(end), 1_000_001)

    def density(profile):
        return (profile.gamma + 1) / profile.end * (times / profile.end) ** profile.gamma

    expected = np.trapezoid(density(first) * density(second), times)
    assert expected == pytest.approx(inner(first, second), rel=1e-9)


def simulated(updates: int, decay: float) -> list[float]:
    """The weight of each step in the average that diffusers' EMAModel makes."""
    weights = [0.0] * updates
    for update in range(1, updates + 1):
        kept = 0.0 if update == 1 else min(update / (9 + update), decay)
        weights = [weight * kept for weight in weights]
        weights[update - 1] += 1 - kept
    return weights


@pytest.mark.parametrize("updates", [1, 2, 3, 50, 400])
@pytest.mark.parametrize("decay", [0.0, 0.05, 0.5, 0.9, 0.9999, 1.0])
def test_the_profile_of_a_stored_average_is_that_of_its_updates(updates, decay):
    profile = decay_profile(updates, decay)

    times = np.arange(updates + 1)
    expected = np.concatenate(([0], np.cumsum(simulated(updates, decay))))
    assert expected == pytest.approx(profile.cumulative(times), rel=1e-9, abs=1e-15)


def test_the_profile_of_a_stored_average_is_diffusers_own():
    torch = pytest.importorskip("torch")
    training_utils = pytest.importorskip("diffusers.training_utils")
    # each step has an axis of its own, so the average shows how much each counts
    steps = 30
    average = training_utils.EMAModel([torch.zeros(steps, dtype=torch.float64)], decay=0.7)
    for step in range(steps):
        parameter = torch.zeros(steps, dtype=torch.float64)
        parameter[step] = 1
        average.step([torch.nn.Parameter(parameter)])

    (weights,) = average.shadow_params

    assert weights.tolist() == pytest.approx(decay_profile(steps, 0.7).masses.tolist(), rel=1e-9)


def test_a_long_run_is_divided_into_a_bounded_number_of_pieces():
    profile = decay_profile(1_000_000_000, 0.9999)

    assert len(profile.masses) <= 2**16
    assert 1 == pytest.approx(profile.cumulative(1_000_000_000))


def test_snapshots_count_with_the_integral_of_the_profile_since_the_one_before():
    steps, gamma = [100, 250, 300, 700], gamma_of(0.1)

    found = fit(snapshot_profiles(steps), PowerProfile(700, gamma))

    edges = (np.array([0, *steps]) / 700) ** (gamma + 1)
    assert np.diff(edges).tolist() == pytest.approx(found.coefficients, rel=1e-9)
    assert 1 == pytest.approx(sum(found.coefficients))


def test_a_stored_profile_is_found_again_without_error():
    stored = [PowerProfile(end, gamma_of(s)) for end in (500, 1000) for s in (0.05, 0.10)]

    found = fit(stored, stored[3])

    assert [0, 0, 0, 1] == pytest.approx(found.coefficients, abs=1e-9)
    assert found.error < 1e-6


def test_the_fit_is_the_solution_of_the_equations_of_the_paper():
    stored = [PowerProfile(end, gamma_of(s)) for end in range(100, 900, 100) for s in (0.05, 0.10)]
    wanted = PowerProfile(800, gamma_of(0.15))
    products = np.array([[inner(a, b) for b in stored] for a in stored])
    aims = np.array([inner(a, wanted) for a in stored])

    found = fit(stored, wanted)

    assert np.linalg.solve(products, aims).tolist() == pytest.approx(
        found.coefficients, rel=1e-4, abs=1e-6
    )


def test_the_error_is_the_distance_between_the_profiles():
    stored, wanted = snapshot_profiles([250, 500, 750, 1000]), PowerProfile(1000, gamma_of(0.1))
    times = (np.arange(1_000_000) + 0.5) / 1000

    found = fit(stored, wanted)

    made = np.repeat(np.array(found.coefficients) / 250, 250_000)
    aimed = (wanted.gamma + 1) / 1000 * (times / 1000) ** wanted.gamma
    expected = math.sqrt(((aimed - made) ** 2).sum() / (aimed**2).sum())
    assert expected == pytest.approx(found.error, rel=1e-6)


def test_equal_stored_profiles_share_their_weight():
    profile = PowerProfile(10, 3.0)

    found = fit([profile, profile], profile)

    assert [0.5, 0.5] == pytest.approx(found.coefficients)
