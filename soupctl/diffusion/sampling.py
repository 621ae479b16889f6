"""Images from a denoiser, by any scheduler of diffusers, in twenty lines."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from ..errors import MismatchError
from . import rng
from .loading import predict
from .objective import Objective


def sampler_of(scheduler: Any, objective: Objective, *, has_vae: bool) -> Any:
    """A DDIM scheduler with the noise levels of `scheduler` and the objective's prediction."""
    config = dict(scheduler.config)
    config["prediction_type"] = objective.prediction.value
    # a model of latents has values beyond [-1, 1], which must not be clipped
    config["clip_sample"] = not has_vae
    if config.get("rescale_betas_zero_snr"):
        # the first step has to start where there is no signal at all
        config["timestep_spacing"] = "trailing"
    return diffusers.DDIMScheduler.from_config(config)


def require_steps(scheduler: Any, objective: Objective, steps: int, path: str) -> None:
    """Raise MismatchError, about the base at `path`, if it cannot be sampled in so many steps."""
    count = objective.timesteps
    sampler = sampler_of(scheduler, objective, has_vae=True)
    if steps <= count:
        sampler.set_timesteps(steps)
    # a scheduler may take each timestep a little later than evenly
    if steps > count or int(sampler.timesteps.max()) >= count:
        raise MismatchError(
            f"there are no {steps} steps among the {count} timesteps of the base", path=path
        )


def initial_noise(shape: tuple[int, ...], seed: int, purpose: str) -> torch.Tensor:
    """Standard normal numbers to begin with, the same for the same arguments."""
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
) -> torch.Tensor:
    """What the denoiser makes of noise [B, C, H, W] in so many steps.

    With `unconditional`, what it says without a condition is `guidance` times left behind
    (classifier-free guidance, Ho and Salimans 2022, arXiv 2207.12598).
    """
    scheduler.set_timesteps(steps, device=noise.device)
    sample = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        timesteps = timestep.expand(len(scaled))
        channels = noise.shape[1]
        said = predict(denoiser, scaled, timesteps, condition)[:, :channels]
        if unconditional is not None and guidance != 1:
            plain = predict(denoiser, scaled, timesteps, unconditional)[:, :channels]
            said = plain + guidance * (said - plain)
        sample = scheduler.step(said, timestep, sample, return_dict=False)[0]
    return sample
