"""Stable Diffusion 1.x and 2.x: one text encoder, whose last hidden states are the condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .family import Condition, DenoiserFamily, Guided, TextPart

if TYPE_CHECKING:
    import torch


def embed(
    encoders: Mapping[str, Any], ids: Mapping[str, torch.Tensor], _config: Mapping[str, Any]
) -> Condition:
    """The embeddings of captions, [B, tokens, width]."""
    states = encoders["text_encoder"](ids["text_encoder"], return_dict=False)[0]
    return {"encoder_hidden_states": states}


def predict(
    denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """The prediction for latents [B, C, H, W] at timesteps [B]."""
    return denoiser(noisy, timesteps, **condition, return_dict=False)[0]


STABLE_DIFFUSION = DenoiserFamily(
    "Stable Diffusion",
    predict,
    (TextPart("text_encoder", "tokenizer", ("CLIPTextModel",)),),
    embed,
    guided=Guided.NULL_FIRST,
)
