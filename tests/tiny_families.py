"""The smallest models of each family that diffusers and transformers will still build and save.

Rule 1: they have the names of the published ones, and each change of layout occurs in one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny_models import drawn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

WIDTH, WIDE, VOCABULARY = 32, 64, 60


def clip(width: int, act: str, kind: Any = CLIPTextModel, layers: int = 2) -> Any:
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=8,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=2,
    )
    return drawn(kind(config), width)


def unet(cross: int, **changes: Any) -> UNet2DConditionModel:
    config = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (WIDTH, WIDE),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": cross,
        "attention_head_dim": 8,
    }
    return drawn(UNet2DConditionModel(**{**config, **changes}), cross)


def autoencoder(*, is_quantised: bool = True) -> AutoencoderKL:
    config = {
        "block_out_channels": (WIDTH, WIDE),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "use_quant_conv": is_quantised,
        "use_post_quant_conv": is_quantised,
    }
    return drawn(AutoencoderKL(**config), 3)


def _stable_diffusion(kind: Any = StableDiffusionPipeline, **parts: Any) -> Any:
    return kind(
        vae=autoencoder(),
        tokenizer=None,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )


def sd1() -> StableDiffusionPipeline:
    return _stable_diffusion(unet=unet(WIDTH), text_encoder=clip(WIDTH, "quick_gelu"))


def sd2() -> StableDiffusionPipeline:
    heads = {"attention_head_dim": [1, 1], "use_linear_projection": True}
    return _stable_diffusion(unet=unet(WIDE, **heads), text_encoder=clip(WIDE, "gelu"))


def inpainting() -> StableDiffusionInpaintPipeline:
    parts = {"unet": unet(WIDTH, in_channels=9), "text_encoder": clip(WIDTH, "quick_gelu")}
    return _stable_diffusion(StableDiffusionInpaintPipeline, **parts)


def _xl_unet(cross: int, numbers: int, **changes: Any) -> UNet2DConditionModel:
    """A UNet that is told `numbers` numbers of an image."""
    return unet(
        cross,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDE + numbers * 8,
        transformer_layers_per_block=[1, 2],
        attention_head_dim=[1, 1],
        use_linear_projection=True,
        **changes,
    )


def refiner() -> StableDiffusionXLImg2ImgPipeline:
    return StableDiffusionXLImg2ImgPipeline(
        unet=_xl_unet(WIDE, 5),
        vae=autoencoder(),
        text_encoder=None,
        text_encoder_2=clip(WIDE, "gelu", CLIPTextModelWithProjection),
        tokenizer=None,
        tokenizer_2=None,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )


def sdxl(kind: Any = StableDiffusionXLPipeline, **changes: Any) -> Any:
    return kind(
        unet=_xl_unet(WIDTH + WIDE, 6, **changes),
        vae=autoencoder(),
        text_encoder=clip(WIDTH, "quick_gelu"),
        text_encoder_2=clip(WIDE, "gelu", CLIPTextModelWithProjection),
        tokenizer=None,
        tokenizer_2=None,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    )


def xl_inpainting() -> StableDiffusionXLInpaintPipeline:
    return sdxl(StableDiffusionXLInpaintPipeline, in_channels=9)


def flux() -> FluxPipeline:
    transformer = FluxTransformer2DModel(
        in_channels=8,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=6,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=True,
    )
    t5 = T5Config(
        vocab_size=5,
        d_model=6,
        d_kv=4,
        d_ff=8,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return FluxPipeline(
        transformer=drawn(transformer, 1),
        vae=autoencoder(is_quantised=False),
        text_encoder=clip(WIDTH, "quick_gelu"),
        text_encoder_2=drawn(T5EncoderModel(t5), 2),
        tokenizer=None,
        tokenizer_2=None,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


PIPELINES = {
    "sd1": sd1,
    "inpainting": inpainting,
    "sd2": sd2,
    "sdxl": sdxl,
    "xl_inpainting": xl_inpainting,
    "refiner": refiner,
    "flux": flux,
}


def save_family(name: str, folder: Path) -> Path:
    """The pipeline of a family, as diffusers saves it."""
    PIPELINES[name]().save_pretrained(folder)
    return folder
