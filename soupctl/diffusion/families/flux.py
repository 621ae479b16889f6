"""Flux: flow matching on packed latents, with the pooled embedding of CLIP and the states of T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .family import Condition, DenoiserFamily, Frame, TextPart

if TYPE_CHECKING:
    import torch

TOKENS = 512
"""Tokens of a caption for T5."""
SIDE = 2
"""Height and width of the patch of latents that is one token."""


def embed(
    encoders: Mapping[str, Any], ids: Mapping[str, torch.Tensor], _config: Mapping[str, Any]
) -> Condition:
    """The hidden states of T5, [B, tokens, width], and the pooled embedding of CLIP."""
    return {
        "encoder_hidden_states": encoders["text_encoder_2"](ids["text_encoder_2"])[0],
        "pooled_projections": encoders["text_encoder"](ids["text_encoder"]).pooler_output,
    }


def complete(
    condition: Condition, config: Mapping[str, Any], _frame: Frame, guidance: float
) -> Condition:
    """The condition with the guidance scale, [B], if the model has an embedding of it."""
    if not config.get("guidance_embeds"):
        return condition
    pooled = condition["pooled_projections"]
    return {**condition, "guidance": pooled.new_full((len(pooled),), guidance)}


def predict(
    denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """The prediction for latents [B, C, H, W] at timesteps [B]."""
    texts = condition["encoder_hidden_states"].shape[1]
    rows, columns = (side // SIDE for side in noisy.shape[2:])
    packed = denoiser(
        hidden_states=pack(noisy),
        timestep=timesteps / 1000,
        **condition,
        txt_ids=noisy.new_zeros(texts, 3),
        img_ids=positions(noisy, rows, columns),
        return_dict=False,
    )[0]
    return unpack(packed, rows, columns)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents [B, C, H, W] as tokens of 2 by 2 positions, [B, H/2 W/2, 4 C]."""
    count, channels, height, width = latents.shape
    patches = latents.view(count, channels, height // SIDE, SIDE, width // SIDE, SIDE)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * SIDE * SIDE)


def unpack(tokens: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The inverse of `pack` for so many rows and columns of tokens."""
    patches = tokens.view(len(tokens), rows, columns, -1, SIDE, SIDE).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(len(tokens), -1, rows * SIDE, columns * SIDE)


def positions(like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """For each token 0, its row and its column, [rows columns, 3]."""
    import torch

    found = like.new_zeros(rows, columns, 3)
    found[..., 1] += torch.arange(rows, device=like.device)[:, None]
    found[..., 2] += torch.arange(columns, device=like.device)[None, :]
    return found.reshape(rows * columns, 3)


def schedule(scheduler: Any, steps: int, tokens: int, device: Any) -> None:
    """Set the timesteps of a scheduler for images of so many tokens."""
    import numpy as np

    from ..flow import sequence_shift

    shares = np.linspace(1.0, 1 / steps, steps)
    shift = sequence_shift(scheduler.config, tokens)
    scheduler.set_timesteps(sigmas=shares, device=device, mu=shift)
    scheduler.set_begin_index(0)


FLUX = DenoiserFamily(
    "Flux",
    predict,
    (
        TextPart("text_encoder", "tokenizer", ("CLIPTextModel",)),
        TextPart("text_encoder_2", "tokenizer_2", ("T5EncoderModel",), TOKENS),
    ),
    embed,
    complete,
    schedule=schedule,
    is_flow=True,
    packing=SIDE * SIDE,
    patch=SIDE,
    sample_size=128,
)
