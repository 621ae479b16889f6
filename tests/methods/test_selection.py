"""The largest magnitudes are selected exactly, whatever their distribution and the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from soupctl.methods.selection import LargestMagnitudes, magnitude_bits

DRAW = np.random.default_rng(1)
VALUES = {
    "normal": DRAW.normal(0, 1, 200_001),
    "two values": DRAW.choice([1.0, -1.0], 200_001),
    "few values": DRAW.integers(-5, 6, 200_001).astype(np.float64),
    "zeros": np.zeros(150_000),
    "every exponent": np.ldexp(1.0, DRAW.integers(-1074, 1023, 150_000)),
    "one bucket": 1 + DRAW.integers(0, 1 << 20, 150_000) * 2.0**-52,
    "short": DRAW.normal(0, 1, 7),
    "one": np.array([3.0]),
}


def largest(values, wanted):
    """The mask of the largest by a stable sort: of equal ones, the first."""
    mask = np.zeros(len(values), bool)
    mask[np.argsort(-np.abs(values), kind="stable")[:wanted]] = True
    return mask


def selected(values, wanted, block):
    found = LargestMagnitudes(wanted, len(values))
    bits = magnitude_bits(values)
    parts = [bits[start : start + block] for start in range(0, len(bits), block)]
    surveys = 0
    while found.needs_survey:
        for part in parts:
            found.survey(part)
        found.end_survey()
        surveys += 1
    return np.concatenate([found.selected(part) for part in parts]), surveys


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("share", [0, 1e-9, 0.001, 0.2, 0.5, 0.999, 1])
def test_exactly_the_largest_are_selected_and_the_first_of_equal_ones(name, share):
    values = VALUES[name]
    wanted = min(len(values), -int(-share * len(values) // 1))

    found, surveys = selected(values, wanted, 1 << 16)

    assert np.array_equal(largest(values, wanted), found)
    assert surveys <= 4


def test_the_size_of_blocks_does_not_show():
    values = VALUES["few values"]

    assert np.array_equal(selected(values, 70_000, 999)[0], selected(values, 70_000, 1 << 17)[0])
