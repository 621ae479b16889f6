"""Images from a denoiser by diffusers' DDIM (Song et al. 2021, arXiv 2010.02502)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from ..errors import MismatchError
from . import rng
from .base import Base
from .families.family import Condition, Guided
from .flow import FlowObjective, TrainingObjective

UNSET = "_use_default_values"
"""The entry of a scheduler's config with the names of fields that its file did not have."""
DDPM_ONLY = ("laplace", "sigmoid")
"""Noise schedules that diffusers' DDPM has, and its DDIM does not."""


def sampler_of(scheduler: Any, objective: TrainingObjective, *, is_clipped: bool) -> Any:
    """A DDIM scheduler with the noise schedule of `scheduler` and the objective's prediction.

    With `is_clipped`, what a step predicts of the image is clipped. For flow matching, it is
    Euler's method with the settings of `scheduler`.
    """
    if isinstance(objective, FlowObjective):
        return diffusers.FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    # diffusers drops the fields that this entry names as defaults, even if they are set below
    config = {name: value for name, value in scheduler.config.items() if name != UNSET}
    config["prediction_type"] = objective.prediction.value
    config["clip_sample"] = is_clipped
    if config.get("rescale_betas_zero_snr"):
        # the first step must start at pure noise
        config["timestep_spacing"] = "trailing"
    if config.get("beta_schedule") in DDPM_ONLY:
        # betas given as a list, with the last one already adjusted
        config |= {"trained_betas": scheduler.betas.tolist(), "rescale_betas_zero_snr": False}
    return diffusers.DDIMScheduler.from_config(config)


def require_steps(scheduler: Any, objective: TrainingObjective, steps: int, path: str) -> None:
    """Raise MismatchError, naming the base at `path`, if it cannot be sampled in so many steps."""
    if isinstance(objective, FlowObjective):
        # its timesteps are continuous
        return
    count = objective.timesteps
    sampler = sampler_of(scheduler, objective, is_clipped=False)
    if steps <= count:
        sampler.set_timesteps(steps)
    # some schedulers shift all timesteps by one
    if steps > count or int(sampler.timesteps.max()) >= count:
        what = f"cannot be sampled in {steps} steps: it has {count} timesteps"
        raise MismatchError(what, path=path, advice="lower --steps")


def initial_noise(shape: tuple[int, ...], seed: int, purpose: str) -> torch.Tensor:
    """Standard normal noise [*shape] to start from: a function of seed and purpose alone."""
    return torch.from_numpy(rng.normal(shape, seed, purpose))


@dataclass(frozen=True, slots=True)
class Sampler:
    """A denoiser with a scheduler, and how it is sampled."""

    denoiser: Any
    base: Base
    scheduler: Any
    steps: int
    guidance: float
    """Scale of classifier-free guidance; 1 for none."""


@torch.no_grad()
def sample(
    sampler: Sampler,
    noise: torch.Tensor,
    condition: Condition,
    unconditional: Condition | None,
    on_step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Samples [B, C, H, W] that the denoiser makes of noise of that shape.

    With `unconditional`, the null condition, predictions are extrapolated from
    the unconditional ones by the factor `guidance` (classifier-free guidance, Ho and Salimans
    2022, arXiv 2207.12598, equation 6, with guidance = 1 + w). `on_step` is called after each step.
    """
    scheduler, base = sampler.scheduler, sampler.base
    tokens = (noise.shape[-2] // base.patch) * (noise.shape[-1] // base.patch)
    base.family.schedule(scheduler, sampler.steps, tokens, noise.device)
    is_flow = base.family.is_flow
    sample = noise if is_flow else noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = sample if is_flow else scheduler.scale_model_input(sample, timestep)
        predicted = _guided(sampler, scaled, timestep, condition, unconditional)
        sample = scheduler.step(predicted, timestep, sample, return_dict=False)[0]
        on_step()
    return sample


def _guided(
    sampler: Sampler,
    noisy: torch.Tensor,
    timestep: torch.Tensor,
    condition: Condition,
    unconditional: Condition | None,
) -> torch.Tensor:
    """The prediction [B, C, H, W] with classifier-free guidance, if there is a null condition."""
    family, guidance = sampler.base.family, sampler.guidance

    def predict(noisy: torch.Tensor, condition: Condition) -> torch.Tensor:
        # further channels are predicted variances, which DDIM does not use
        found = family.predict(sampler.denoiser, noisy, timestep.expand(len(noisy)), condition)
        return found[:, : noisy.shape[1]]

    if unconditional is None or guidance == 1 or sampler.base.embeds_guidance:
        return predict(noisy, condition)
    if family.guided is Guided.APART:
        predicted, plain = predict(noisy, condition), predict(noisy, unconditional)
    else:
        is_first = family.guided is Guided.NULL_FIRST
        order = [unconditional, condition] if is_first else [condition, unconditional]
        both = {name: torch.cat([each[name] for each in order]) for name in condition}
        one, other = predict(torch.cat([noisy, noisy]), both).chunk(2)
        plain, predicted = (one, other) if is_first else (other, one)
    return plain + guidance * (predicted - plain)
