"""Held-out denoising losses that are compared triple by triple of image, timestep and noise.

Rule 1: all models are asked the same triples, so that of two models only the difference is random.
Rule 2: each tenth of the timesteps has equally many triples of each image.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from replication.judging import Predict, Probe, pixels_of, predictions
from replication.shapes import Pictures

TENTHS = 10

Errors = npt.NDArray[np.float64]
"""Mean squared errors, [images, tenths of the timesteps, draws]."""


def triples(pictures: Pictures, draws: int, seed: int) -> Probe:
    """`draws` triples for each image and tenth of the timesteps, the same for the same seed."""
    random = torch.Generator().manual_seed(seed)
    each, wide = TENTHS * draws, 1000 // TENTHS
    samples = pixels_of(pictures.images).repeat_interleave(each, dim=0)
    tenths = torch.arange(TENTHS).repeat_interleave(draws).repeat(len(pictures))
    return Probe(
        samples,
        torch.from_numpy(pictures.labels).repeat_interleave(each),
        tenths * wide + torch.randint(wide, tenths.shape, generator=random),
        torch.randn(samples.shape, generator=random),
        draws,
    )


def errors(predict: Predict, asked: Probe) -> Errors:
    """The error of each triple."""
    found = (predictions(predict, asked) - asked.noise).double().square().mean(dim=(1, 2, 3))
    return found.numpy().reshape(-1, TENTHS, asked.draws)


def compared(arm: Errors, others: Mapping[str, Errors], base: Errors) -> dict[str, Any]:
    """The loss of an arm, by tenth of the timesteps, and how sure its differences to others are.

    `error_to` has the standard errors if test images are drawn anew, in per cent of the base's.
    """
    scale = 100 / base.mean() / sqrt(len(base))
    return {
        "loss": float(arm.mean()),
        # the low noise first
        "tenths": arm.mean(axis=(0, 2)).tolist(),
        "error_to": {
            name: float(scale * (arm - other).mean(axis=(1, 2)).std(ddof=1))
            for name, other in others.items()
        },
    }
