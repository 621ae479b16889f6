"""The random number of an element depends on seed, tensor, model and index alone."""

from __future__ import annotations

import numpy as np
import pytest

from soupctl.methods.random_numbers import ElementNumbers


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 4096, 9999])
def test_cutting_a_tensor_does_not_change_its_numbers(cut):
    numbers = ElementNumbers(7, "layer.weight", 1)
    whole = numbers.at(0, 10_000)

    parts = [numbers.at(0, cut), numbers.at(cut, 10_000 - cut)]

    assert np.array_equal(whole, np.concatenate(parts))


def test_seeds_tensors_and_models_have_numbers_of_their_own():
    first = ElementNumbers(0, "a", 0).at(0, 1000)

    for other in (ElementNumbers(1, "a", 0), ElementNumbers(0, "b", 0), ElementNumbers(0, "a", 1)):
        assert not np.any(first == other.at(0, 1000))


def test_the_numbers_stay_the_same_from_version_to_version():
    expected = [0xBC66C7EA6548A014, 0x69BFFDB50A83FB34, 0x4D87F13D55A59852]

    assert expected == [int(each) for each in ElementNumbers(0, "a", 0).at(0, 3)]


def test_shares_are_spread_evenly_from_0_to_below_1():
    shares = ElementNumbers(0, "a", 0).shares(0, 100_000)
    counts = np.histogram(shares, 10, (0, 1))[0]

    assert shares.min() >= 0
    assert shares.max() < 1
    # six standard deviations of a count
    assert np.all(np.abs(counts - 10_000) < 6 * 95)
