"""Stable Diffusion 3 and 3.5: flow matching with two CLIP encoders, and T5 if a pipeline has it.

Source: Esser et al. 2024, arXiv 2403.03206; how embeddings are joined is diffusers' way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .family import Condition, DenoiserFamily, Guided, TextPart

if TYPE_CHECKING:
    import torch

TOKENS = 256
"""Tokens of a caption for T5; without it, as many zeros."""
T5 = "text_encoder_3"


def embed(
    encoders: Mapping[str, Any], ids: Mapping[str, torch.Tensor], config: Mapping[str, Any]
) -> Condition:
    """CLIP's hidden states before the last layer, padded with zeros, then those of T5."""
    import torch

    names = ("text_encoder", "text_encoder_2")
    found = [encoders[name](ids[name], output_hidden_states=True) for name in names]
    clip = torch.cat([each.hidden_states[-2] for each in found], dim=-1)
    zeros = clip.new_zeros(len(clip), TOKENS, int(config["joint_attention_dim"]))
    long = encoders[T5](ids[T5])[0] if T5 in encoders else zeros
    clip = torch.nn.functional.pad(clip, (0, long.shape[-1] - clip.shape[-1]))
    return {
        "encoder_hidden_states": torch.cat([clip, long], dim=-2),
        "pooled_projections": torch.cat([each.text_embeds for each in found], dim=-1),
    }


def predict(
    denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """The prediction for latents [B, C, H, W] at timesteps [B]."""
    return denoiser(hidden_states=noisy, timestep=timesteps, **condition, return_dict=False)[0]


def schedule(scheduler: Any, steps: int, tokens: int, device: Any) -> None:
    """Set the timesteps of a scheduler for images of so many tokens."""
    from ..flow import sequence_shift

    more = {}
    if scheduler.config.use_dynamic_shifting:
        more["mu"] = sequence_shift(scheduler.config, tokens)
    scheduler.set_timesteps(steps, device=device, **more)


CLIP = ("CLIPTextModelWithProjection",)
SD3 = DenoiserFamily(
    "Stable Diffusion 3",
    predict,
    (
        TextPart("text_encoder", "tokenizer", CLIP),
        TextPart("text_encoder_2", "tokenizer_2", CLIP),
        TextPart(T5, "tokenizer_3", ("T5EncoderModel",), TOKENS, is_optional=True),
    ),
    embed,
    schedule=schedule,
    is_flow=True,
    guided=Guided.NULL_FIRST,
)
