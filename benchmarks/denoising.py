"""Denoising losses at fixed images, timesteps and noise, and what their differences come to.

Rule 1: two models are compared on the same triples of image, timestep and noise, one by one.
Rule 2: each quarter of the timesteps has equally many triples of each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDPMScheduler
from digits import LabelledImages

QUARTERS = 4
AT_ONCE = 512
"""Triples of a forward pass."""
QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 0.975 quantiles of Student's t with 1 to 9 degrees of freedom."""
MOST_SEEDS = len(QUANTILES) + 1

Losses = npt.NDArray[np.float64]
"""Squared errors, each the mean over the pixels of a triple; [images, quarters, draws]."""


@dataclass(frozen=True, slots=True)
class Triples:
    """What a model is asked: all have one row for each triple, image by image."""

    samples: torch.Tensor
    """Pixels in [-1, 1], [rows, 1, 8, 8]."""
    labels: torch.Tensor
    timesteps: torch.Tensor
    noise: torch.Tensor
    draws: int
    """Triples of an image in each quarter of the timesteps."""


def draw_triples(part: LabelledImages, draws: int, seed: int) -> Triples:
    """`draws` triples for each image and quarter of the timesteps."""
    generator = torch.Generator().manual_seed(seed)
    times = DDPMScheduler().config.num_train_timesteps // QUARTERS
    each = QUARTERS * draws
    pixels = torch.from_numpy(part.images)[:, None].float() / 127.5 - 1
    samples = pixels.repeat_interleave(each, dim=0)
    quarters = torch.arange(QUARTERS).repeat_interleave(draws).repeat(len(pixels))
    return Triples(
        samples,
        torch.from_numpy(part.labels).repeat_interleave(each),
        quarters * times + torch.randint(times, quarters.shape, generator=generator),
        torch.randn(samples.shape, generator=generator),
        draws,
    )


@torch.inference_mode()
def losses(model: Any, triples: Triples) -> Losses:
    """How far off a model's prediction of the noise is, told the class, for each triple."""
    scheduler, found = DDPMScheduler(), []
    for start in range(0, len(triples.samples), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        noise, times = triples.noise[rows], triples.timesteps[rows]
        noisy = scheduler.add_noise(triples.samples[rows], noise, times)
        predicted = model(noisy, timestep=times, class_labels=triples.labels[rows]).sample
        found.append((predicted - noise).double().square().mean(dim=(1, 2, 3)))
    return torch.cat(found).numpy().reshape(-1, QUARTERS, triples.draws)


def percent(value: float, base: float) -> float:
    """How much larger `value` is, in per cent of `base`."""
    return 100 * (value - base) / base


def compared(arm: Losses, base: Losses) -> dict[str, Any]:
    """How much larger an arm's losses are than the base's, in per cent of the base's mean.

    `error_draws` is the standard error of the difference if images stay and draws are made anew;
    `error_images`, if images are drawn anew as well.
    """
    difference = arm - base
    whole, scale = base.mean(), 100 / base.mean()
    # each cell of image and quarter has its own random draws
    cells = difference.var(axis=2, ddof=1) / difference.shape[2]
    images = difference.mean(axis=(1, 2))
    return {
        "loss": float(arm.mean()),
        "percent": percent(float(arm.mean()), float(whole)),
        "error_draws": float(scale * sqrt(cells.sum()) / cells.size),
        "error_images": float(scale * images.std(ddof=1) / sqrt(len(images))),
        "quarters": [
            percent(float(arm[:, quarter].mean()), float(base[:, quarter].mean()))
            for quarter in range(QUARTERS)
        ],
    }


def interval(values: list[float]) -> dict[str, float]:
    """Mean of a value over the seeds, and its 95 % interval by Student's t."""
    mean = fmean(values)
    half = QUANTILES[len(values) - 2] * stdev(values) / sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}
