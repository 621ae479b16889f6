"""Images from a denoiser by diffusers' DDIM (Song et al. 2021, arXiv 2010.02502)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch

from ..errors import MismatchError
from . import rng
from .loading import predict
from .objective import Objective

UNSET = "_use_default_values"
"""The entry of a scheduler's config with the names of fields that its file did not have."""
DDPM_ONLY = ("laplace", "sigmoid")
"""Noise schedules that diffusers' DDPM has, and its DDIM does not."""


def sampler_of(scheduler: Any, objective: Objective, *, has_vae: bool) -> Any:
    """A DDIM scheduler with the noise schedule of `scheduler` and the objective's prediction."""
    # diffusers drops the fields that this entry names as defaults, even if they are set below
    config = {name: value for name, value in scheduler.config.items() if name != UNSET}
    config["prediction_type"] = objective.prediction.value
    # a model of latents has values beyond [-1, 1], which must not be clipped
    config["clip_sample"] = not has_vae
    if config.get("rescale_betas_zero_snr"):
        # the first step must start at pure noise
        config["timestep_spacing"] = "trailing"
    if config.get("beta_schedule") in DDPM_ONLY:
        # betas given as a list, with the last one already adjusted
        config |= {"trained_betas": scheduler.betas.tolist(), "rescale_betas_zero_snr": False}
    return diffusers.DDIMScheduler.from_config(config)


def require_steps(scheduler: Any, objective: Objective, steps: int, path: str) -> None:
    """Raise MismatchError, naming the base at `path`, if it cannot be sampled in so many steps."""
    count = objective.timesteps
    sampler = sampler_of(scheduler, objective, has_vae=True)
    if steps <= count:
        sampler.set_timesteps(steps)
    # some schedulers shift all timesteps by one
    if steps > count or int(sampler.timesteps.max()) >= count:
        what = f"cannot be sampled in {steps} steps: it has {count} timesteps"
        raise MismatchError(what, path=path, advice="lower --steps")


def initial_noise(shape: tuple[int, ...], seed: int, purpose: str) -> torch.Tensor:
    """Standard normal noise [*shape] to start from: a function of seed and purpose alone."""
    return torch.from_numpy(rng.normal(shape, seed, purpose))


@torch.no_grad()
def sample(
    denoiser: Any,
    scheduler: Any,
    noise: torch.Tensor,
    condition: torch.Tensor | None,
    unconditional: torch.Tensor | None,
    *,
    steps: int,
    guidance: float,
    on_step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Samples [B, C, H, W] that the denoiser makes of noise of that shape in so many steps.

    With `unconditional`, the null condition, predictions are extrapolated from
    the unconditional ones by the factor `guidance` (classifier-free guidance, Ho and Salimans
    2022, arXiv 2207.12598, equation 6, with guidance = 1 + w). `on_step` is called after each step.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    sample = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        timesteps = timestep.expand(len(scaled))
        channels = noise.shape[1]
        # further channels are predicted variances, which DDIM does not use
        predicted = predict(denoiser, scaled, timesteps, condition)[:, :channels]
        if unconditional is not None and guidance != 1:
            plain = predict(denoiser, scaled, timesteps, unconditional)[:, :channels]
            predicted = plain + guidance * (predicted - plain)
        sample = scheduler.step(predicted, timestep, sample, return_dict=False)[0]
        on_step()
    return sample
