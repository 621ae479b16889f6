"""Noise, targets and weights are those of the papers; diffusers' own functions are the oracle."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr

from soupctl.choices import Prediction
from soupctl.diffusion.objective import objective_of
from soupctl.errors import MismatchError, UsageError

KINDS = [Prediction.EPSILON, Prediction.VELOCITY, Prediction.SAMPLE]


def drawn():
    generator = torch.Generator().manual_seed(0)
    samples, noise = (torch.randn(5, 3, 4, 4, generator=generator) for _ in range(2))
    return samples, noise, torch.tensor([0, 1, 500, 998, 999])


def test_noise_is_added_as_diffusers_adds_it():
    scheduler = DDPMScheduler()
    samples, noise, timesteps = drawn()

    noisy = objective_of(scheduler, Prediction.AUTO, None).noisy(samples, noise, timesteps)

    assert torch.equal(scheduler.add_noise(samples, noise, timesteps), noisy)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_has_the_prediction_type_of_the_base(kind):
    scheduler = DDPMScheduler(prediction_type=kind.value)
    samples, noise, timesteps = drawn()

    target = objective_of(scheduler, Prediction.AUTO, None).target(samples, noise, timesteps)

    expected = {
        Prediction.EPSILON: noise,
        Prediction.VELOCITY: scheduler.get_velocity(samples, noise, timesteps),
        Prediction.SAMPLE: samples,
    }
    assert torch.equal(expected[kind], target)


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_weights_are_those_of_the_paper(kind):
    scheduler = DDPMScheduler()
    timesteps = drawn()[2]
    snr = compute_snr(scheduler, timesteps).double()
    least = snr.clamp(max=5)
    expected = {
        Prediction.EPSILON: least / snr,
        Prediction.VELOCITY: least / (snr + 1),
        Prediction.SAMPLE: least,
    }[kind]

    weights = objective_of(scheduler, kind, 5.0).weights(timesteps)

    torch.testing.assert_close(weights.double(), expected, rtol=1e-5, atol=0)


def test_a_last_timestep_without_signal_is_fine_for_v_prediction_with_min_snr():
    scheduler = DDPMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    objective = objective_of(scheduler, Prediction.AUTO, 5.0)

    weights = objective.weights(torch.tensor([0, 999]))

    assert objective.alpha_bars[-1] == 0
    assert weights[1] == 0
    assert bool(weights.isfinite().all())


def test_a_last_timestep_without_signal_is_refused_for_epsilon():
    scheduler = DDPMScheduler(rescale_betas_zero_snr=True)

    with pytest.raises(UsageError, match="v_prediction in config"):
        objective_of(scheduler, Prediction.AUTO, None)


def test_a_requested_prediction_type_overrides_the_bases():
    assert objective_of(DDPMScheduler(), Prediction.SAMPLE, None).prediction is Prediction.SAMPLE


def test_flow_matching_is_refused():
    with pytest.raises(MismatchError, match="FlowMatchEulerDiscreteScheduler"):
        objective_of(FlowMatchEulerDiscreteScheduler(), Prediction.AUTO, None)


def test_a_denoiser_that_predicts_variances_trains_its_means_only():
    objective = objective_of(DDPMScheduler(), Prediction.AUTO, None)
    samples, noise, timesteps = drawn()

    plain = objective.loss(samples, samples, noise, timesteps)
    both = objective.loss(torch.cat([samples, noise], 1), samples, noise, timesteps)

    assert torch.equal(plain, both)
    assert torch.equal((samples - noise).square().mean(dim=(1, 2, 3)).mean(), plain)
