"""The training objective of flow matching: noisy inputs, targets, and weights of timesteps.

Rule 1: with the share s of noise at a timestep, the noisy sample of x with noise n is
(1 - s) x + s n, and the target is n - x (Lipman et al. 2023, arXiv 2210.02747).
Rule 2: shares, densities and weights are those of diffusers' scripts for SD3 and Flux (Esser et al.
2024, arXiv 2403.03206, section 3.1). As with betas, the first timestep is the one with least noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.training_utils import compute_loss_weighting_for_sd3

from ..choices import Prediction, Weighting
from ..errors import UsageError
from . import rng
from .objective import EVEN, Emphasis, Objective, objective_of


@dataclass(frozen=True, slots=True)
class FlowObjective:
    """The shares of noise, and how timesteps are weighted."""

    shares: torch.Tensor
    """The share of noise at each timestep, [timesteps], float32, increasing."""
    times: torch.Tensor
    """What the denoiser is told of each timestep, [timesteps], float32."""
    weighting: Weighting = Weighting.NONE
    is_preconditioned: bool = False
    """Whether the loss is that of the clean image which a prediction implies."""

    @property
    def prediction(self) -> Prediction:
        """What the denoiser predicts."""
        return Prediction.FLOW

    @property
    def timesteps(self) -> int:
        """The number of timesteps."""
        return len(self.shares)

    def told(self, timesteps: torch.Tensor) -> torch.Tensor:
        """What the denoiser is told of timesteps [B]."""
        return self.times.to(timesteps.device)[timesteps]

    def noisy(
        self, samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Samples [B, C, H, W] with the noise of timesteps [B] added (rule 1)."""
        share = self._share(timesteps)
        return (1.0 - share) * samples + share * noise

    def _share(self, timesteps: torch.Tensor) -> torch.Tensor:
        return self.shares.to(timesteps.device)[timesteps][:, None, None, None]

    def loss(
        self,
        predicted: torch.Tensor,
        samples: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        emphasis: Emphasis = EVEN,
    ) -> torch.Tensor:
        """The weighted mean squared error, a scalar in float32."""
        share = self._share(timesteps)
        target = noise - samples
        if self.is_preconditioned:
            predicted = predicted * -share + self.noisy(samples, noise, timesteps)
            target = samples
        weights = compute_loss_weighting_for_sd3(self.weighting.value, share)
        squares = weights.float() * (predicted.float() - target.float()) ** 2
        errors = emphasis.of_positions(squares).reshape(len(squares), -1).mean(1)
        return emphasis.mean(errors)


TrainingObjective = Objective | FlowObjective
"""The objective of a base: with betas, or of flow matching."""


def flow_objective(
    scheduler: Any, weighting: Weighting, shift: float | None, *, is_preconditioned: bool
) -> FlowObjective:
    """The objective of a base's flow-matching scheduler, with another shift if that is given.

    A shift that depends on the size of images is used in sampling only, as in diffusers.
    """
    if shift is not None:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(
            scheduler.config, shift=shift
        )
    # newly made, because sampling replaces the timesteps
    fresh = diffusers.FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    shares, times = fresh.sigmas.flip(0), fresh.timesteps.flip(0)
    return FlowObjective(shares, times, weighting, is_preconditioned)


def own_objective(scheduler: Any, *, is_flow: bool) -> TrainingObjective:
    """The objective of a base as its scheduler has it, without options of a training run.

    Raises the errors of `objective_of`.
    """
    if is_flow:
        return flow_objective(scheduler, Weighting.NONE, None, is_preconditioned=False)
    try:
        return objective_of(scheduler, Prediction.AUTO, None)
    except UsageError as error:
        # no option says what the model predicts
        what = "set prediction_type to v_prediction in its scheduler_config.json"
        advice = f"if the base predicts v, {what}"
        raise UsageError(error.issues[0].what, advice=advice) from None


def draw_timestep(
    choices: range,
    weighting: Weighting,
    spread: tuple[float, float, float],
    seed: int,
    position: int,
) -> int:
    """The timestep of the example at a position, among consecutive `choices`.

    `spread` is mean and standard deviation of `logit_normal`, and the scale of `mode`.
    """
    mean, deviation, scale = spread
    if weighting is Weighting.LOGIT_NORMAL:
        normal = float(rng.normal((), seed, "timestep", position))
        share = 1 / (1 + math.exp(-max(mean + deviation * normal, -700.0)))
    else:
        share = rng.uniform(seed, "timestep", position)
        if weighting is Weighting.MODE:
            share = 1 - share - scale * (math.cos(math.pi * share / 2) ** 2 - 1 + share)
    # diffusers counts from the timestep with most noise
    index = min(max(int(share * len(choices)), 0), len(choices) - 1)
    return choices[len(choices) - 1 - index]


def sequence_shift(config: Any, tokens: int) -> float:
    """The shift for images of so many tokens: linear in them, as in diffusers."""
    base, most = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (most - base)
    return float(tokens * slope + (config["base_shift"] - slope * base))
