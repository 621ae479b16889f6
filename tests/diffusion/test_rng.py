"""Every draw is a function of seed, purpose and place."""

from __future__ import annotations

import numpy as np

from soupctl.diffusion import rng


def test_a_draw_does_not_depend_on_those_before_it():
    first = rng.normal((4,), 0, "noise", 7)
    rng.normal((100,), 0, "noise", 6)

    assert np.array_equal(first, rng.normal((4,), 0, "noise", 7))


def test_seed_purpose_and_place_each_give_other_numbers():
    places = [(0, "noise", 7), (1, "noise", 7), (0, "latent", 7), (0, "noise", 8), (0, "noise", 70)]

    drawn = {rng.normal((4,), seed, purpose, place).tobytes() for seed, purpose, place in places}

    assert len(drawn) == len(places)


def test_noise_is_standard_normal():
    noise = rng.normal((200_000,), 3, "noise", 0)

    # five standard errors of mean and variance
    assert abs(noise.mean()) < 5 / 200_000**0.5
    assert abs(noise.var() - 1) < 5 * (2 / 200_000) ** 0.5


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own():
    epochs = [
        [rng.sample_index(0, visit, 10) for visit in range(start, start + 10)] for start in (0, 10)
    ]

    assert [list(range(10))] * 2 == [sorted(epoch) for epoch in epochs]
    assert epochs[0] != epochs[1]
