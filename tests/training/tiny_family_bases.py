"""The smallest bases of the families with several text encoders, drawn anew from a seed.

Rule 1: everything is built in code; nothing comes from a network.
"""

from __future__ import annotations

from pathlib import Path

import tiny_bases
import tiny_models
import tiny_texts
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

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


def t5_tokenizer() -> T5Tokenizer:
    """A tokenizer of words, and of letters for others."""
    letters = sorted({letter for word in tiny_bases.WORDS for letter in word})
    pieces = [*(f"▁{word}" for word in tiny_bases.WORDS), "▁", *letters]
    vocabulary = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")]
    vocabulary += [(piece, -1.0 - number / 8) for number, piece in enumerate(dict.fromkeys(pieces))]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def t5(seed: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=4 * WIDTH,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return tiny_models.drawn(T5EncoderModel(config), seed, 1 / 2)


def flow_autoencoder() -> AutoencoderKL:
    """An autoencoder with a shift, and without convolutions of moments."""
    made = tiny_models.autoencoder(
        scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False
    )
    return tiny_models.drawn(made, 2)


def sd3_base(folder: Path, *, with_t5: bool = True) -> Path:
    """A pipeline of Stable Diffusion 3 of 8x8 pixels, 4x4 latents."""
    transformer = SD3Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=4 * WIDTH,
        caption_projection_dim=8,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=4,
    )
    StableDiffusion3Pipeline(
        transformer=tiny_models.drawn(transformer, 1),
        vae=flow_autoencoder(),
        text_encoder=clip(3),
        text_encoder_2=clip(4),
        text_encoder_3=t5(5) if with_t5 else None,
        tokenizer=tiny_bases.tokenizer(),
        tokenizer_2=tiny_bases.tokenizer(),
        tokenizer_3=t5_tokenizer() if with_t5 else None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)
    return folder


def sd3_clip_base(folder: Path) -> Path:
    """The same without T5, as diffusers allows."""
    return sd3_base(folder, with_t5=False)


def flux_base(folder: Path, *, embeds_guidance: bool = True) -> Path:
    """A pipeline of Flux of 8x8 pixels, 4x4 latents in four tokens."""
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=4 * WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=embeds_guidance,
        axes_dims_rope=(4, 6, 6),
    )
    FluxPipeline(
        transformer=tiny_models.drawn(transformer, 1),
        vae=flow_autoencoder(),
        text_encoder=clip(3, CLIPTextModel),
        text_encoder_2=t5(5),
        tokenizer=tiny_bases.tokenizer(),
        tokenizer_2=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    ).save_pretrained(folder)
    return folder


def schnell_base(folder: Path) -> Path:
    """The same without an embedding of the guidance scale."""
    return flux_base(folder, embeds_guidance=False)
