"""The smallest bases of the families with several text encoders, drawn anew from a seed.

Rule 1: everything is built in code; nothing comes from a network.
"""

from __future__ import annotations

from pathlib import Path

import tiny_bases
import tiny_models
import tiny_texts
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection

WIDTH = 8
"""Features of each text encoder, and of its pooled embedding."""


def clip(seed: int, kind: type = CLIPTextModelWithProjection, **changes: object) -> CLIPTextModel:
    """A text encoder of two layers, so that the one before the last differs from it."""
    config = tiny_texts.text_encoder(tiny_bases.tokenizer(), WIDTH).config
    config.update({"num_hidden_layers": 2, "projection_dim": WIDTH, **changes})
    return tiny_models.drawn(kind(config), seed, 1 / 2)


def sdxl_base(folder: Path, **changes: object) -> Path:
    """A pipeline of Stable Diffusion XL of 8x8 pixels, 4x4 latents."""
    unet = tiny_models.text_unet(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + WIDTH,
    )
    StableDiffusionXLPipeline(
        unet=tiny_models.drawn(unet, 1),
        vae=tiny_models.drawn(tiny_models.autoencoder(force_upcast=True), 2),
        text_encoder=clip(3, CLIPTextModel),
        text_encoder_2=clip(4),
        tokenizer=tiny_bases.tokenizer(),
        tokenizer_2=tiny_bases.tokenizer(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
        add_watermarker=False,
        **changes,
    ).save_pretrained(folder)
    return folder
