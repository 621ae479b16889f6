"""Stable Diffusion XL: two text encoders, pooled embeddings, and sizes and crops of images.

Source: Podell et al. 2023, arXiv 2307.01952; the order of the numbers is that of diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .family import Condition, DenoiserFamily, Frame, Guided, TextPart

if TYPE_CHECKING:
    import torch


def embed(
    encoders: Mapping[str, Any], ids: Mapping[str, torch.Tensor], _config: Mapping[str, Any]
) -> Condition:
    """Both encoders' hidden states before the last layer, [B, tokens, width 1 + width 2].

    The pooled embeddings, [B, width], are those of the second encoder.
    """
    import torch

    found = {
        name: encoders[name](ids[name], output_hidden_states=True)
        for name in ("text_encoder", "text_encoder_2")
    }
    states = [each.hidden_states[-2] for each in found.values()]
    pooled = found["text_encoder_2"].text_embeds
    return {"encoder_hidden_states": torch.cat(states, dim=-1), "text_embeds": pooled}


def complete(
    condition: Condition, _config: Mapping[str, Any], frame: Frame, _guidance: float
) -> Condition:
    """The condition with the frame of each image, `time_ids` [B, 6]."""
    return {**condition, "time_ids": frame.numbers.to(condition["text_embeds"])}


def predict(
    denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """The prediction for latents [B, C, H, W] at timesteps [B]."""
    added = {name: condition[name] for name in ("text_embeds", "time_ids")}
    states = condition["encoder_hidden_states"]
    return denoiser(
        noisy,
        timesteps,
        encoder_hidden_states=states,
        added_cond_kwargs=added,
        return_dict=False,
    )[0]


def zeroes_null(pipeline: Mapping[str, Any]) -> bool:
    """Whether the pipeline's list says that an empty caption stands for zeros, as by default."""
    return pipeline.get("force_zeros_for_empty_prompt", True) is not False


SDXL = DenoiserFamily(
    "Stable Diffusion XL",
    predict,
    (
        TextPart("text_encoder", "tokenizer", ("CLIPTextModel",)),
        TextPart("text_encoder_2", "tokenizer_2", ("CLIPTextModelWithProjection",)),
    ),
    embed,
    complete,
    zeroes_null=zeroes_null,
    guided=Guided.NULL_FIRST,
)
