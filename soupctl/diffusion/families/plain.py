"""Denoisers of pixels or latents alone, or of classes: `UNet2DModel` and DiT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .family import Condition, DenoiserFamily, Guided

if TYPE_CHECKING:
    import torch


def predict(
    denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """The prediction for [B, C, H, W] at timesteps [B], with `class_labels` [B] if it has them."""
    if condition:
        return denoiser(noisy, timestep=timesteps, **condition, return_dict=False)[0]
    return denoiser(noisy, timesteps, return_dict=False)[0]


PLAIN = DenoiserFamily("images without captions", predict)
DIT = DenoiserFamily("DiT", predict, guided=Guided.NULL_LAST, multiplies_scale=True)
