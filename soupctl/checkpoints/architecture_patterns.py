"""All architectures by tensors that identify them: data, in one place.

Rule 1: the first pattern that fits wins, so special cases stand before general ones.
Rule 2: the source of a pattern is the code that names the tensors: a class of diffusers, or the
release of the model.
"""

from __future__ import annotations

from .architecture_pattern import architecture, diffusers_naming, ldm_naming
from .architecture_releases import RELEASES

PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "transformer.", "model.")
"""Prefixes under which transformers of the original naming are shipped."""

MARKERS = (
    ("v_pred", "v-prediction"),
    ("ztsnr", "zero terminal SNR"),
    ("edm_vpred.sigma_max", "EDM v-prediction"),
    ("edm_mean", "EDM"),
)
"""Tensors that ComfyUI reads as settings of an SDXL (supported_models.py), and what they say."""

_LDM = "model.diffusion_model."
_CROSS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_LDM_EARLY = _LDM + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_LDM_LATE = _LDM + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
INPAINTING = ("conv_in.weight", _LDM + "input_blocks.0.0.weight")
"""The first convolution of a UNet, which has nine input channels in an inpainting model."""

_UNETS = (
    # the width of the text embedding tells the generations of Stable Diffusion apart
    diffusers_naming(
        "SDXL UNet", "UNet2DConditionModel", "add_embedding.linear_1.weight", (_CROSS, {1: 2048})
    ),
    diffusers_naming(
        "SDXL refiner UNet",
        "UNet2DConditionModel",
        "add_embedding.linear_1.weight",
        (_CROSS, {1: 1280}),
    ),
    diffusers_naming("SD 2.x UNet", "UNet2DConditionModel", (_CROSS, {1: 1024})),
    diffusers_naming("SD 1.x UNet", "UNet2DConditionModel", (_CROSS, {1: 768})),
    ldm_naming("SDXL", "generative-models", _LDM + "label_emb.0.0.weight", (_LDM_LATE, {1: 2048})),
    ldm_naming(
        "SDXL refiner", "generative-models", _LDM + "label_emb.0.0.weight", (_LDM_LATE, {1: 1280})
    ),
    ldm_naming("SD 2.x", "stablediffusion", (_LDM_EARLY, {1: 1024})),
    ldm_naming("SD 1.x", "latent-diffusion", (_LDM_EARLY, {1: 768})),
)

_TRANSFORMERS = (
    diffusers_naming(
        "Flux.2 transformer",
        "Flux2Transformer2DModel",
        "double_stream_modulation_img.linear.weight",
    ),
    diffusers_naming(
        "Chroma transformer",
        "ChromaTransformer2DModel",
        "distilled_guidance_layer.",
        "single_transformer_blocks.",
    ),
    diffusers_naming(
        "HunyuanVideo 1.5 transformer", "HunyuanVideo15Transformer3DModel", "cond_type_embed.weight"
    ),
    diffusers_naming(
        "HunyuanVideo transformer",
        "HunyuanVideoTransformer3DModel",
        "context_embedder.token_refiner.",
        "time_text_embed.",
    ),
    diffusers_naming(
        "HunyuanImage transformer",
        "HunyuanImageTransformer2DModel",
        "context_embedder.token_refiner.",
        "time_guidance_embed.",
    ),
    diffusers_naming(
        "Hunyuan-DiT", "HunyuanDiT2DModel", "text_embedder.linear_1.weight", "time_extra_emb."
    ),
    diffusers_naming(
        "Flux.1 transformer",
        "FluxTransformer2DModel",
        "single_transformer_blocks.",
        "x_embedder.weight",
    ),
    diffusers_naming(
        "SD 3.5 transformer",
        "SD3Transformer2DModel: queries and keys are normalised",
        "pos_embed.proj.weight",
        "context_embedder.weight",
        "transformer_blocks.0.attn.norm_q.weight",
    ),
    diffusers_naming(
        "AuraFlow transformer",
        "AuraFlowTransformer2DModel",
        "joint_transformer_blocks.",
        "register_tokens",
    ),
    diffusers_naming(
        "SD 3 transformer",
        "SD3Transformer2DModel",
        "pos_embed.proj.weight",
        "context_embedder.weight",
    ),
    diffusers_naming(
        "Wan 2.2 5B transformer",
        "WanTransformer3DModel",
        "condition_embedder.text_embedder.",
        ("patch_embedding.weight", {1: 48}),
    ),
    diffusers_naming(
        "Wan 2.1 image-to-video transformer",
        "WanTransformer3DModel",
        "condition_embedder.image_embedder.",
    ),
    diffusers_naming(
        "Wan 2.2 image-to-video transformer",
        "WanTransformer3DModel",
        "condition_embedder.text_embedder.",
        ("patch_embedding.weight", {1: 36}),
    ),
    diffusers_naming(
        "Wan 2.1 or 2.2 transformer",
        "WanTransformer3DModel",
        "condition_embedder.text_embedder.",
        "patch_embedding.weight",
    ),
    diffusers_naming(
        "Z-Image transformer", "ZImageTransformer2DModel", "cap_pad_token", "noise_refiner."
    ),
    diffusers_naming(
        "Krea 2 transformer", "Krea2Transformer2DModel", "text_fusion.", "time_mod_proj.weight"
    ),
    diffusers_naming(
        "Lumina 2 transformer", "Lumina2Transformer2DModel", "time_caption_embed.", "noise_refiner."
    ),
    diffusers_naming(
        "LTX-2 transformer", "LTX2VideoTransformer3DModel", "audio_proj_in.weight", "time_embed."
    ),
    diffusers_naming(
        "Sana transformer", "SanaTransformer2DModel", "caption_norm.weight", "time_embed."
    ),
    diffusers_naming(
        "LTX-Video transformer",
        "LTXVideoTransformer3DModel",
        "time_embed.",
        "caption_projection.",
        "proj_in.weight",
    ),
    diffusers_naming(
        "CogVideoX transformer",
        "CogVideoXTransformer3DModel",
        "patch_embed.text_proj.weight",
        "norm_final.weight",
    ),
    diffusers_naming(
        "DiT",
        "DiTTransformer2DModel",
        "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight",
    ),
    architecture(
        "DiT, original naming",
        "DiT, models.py",
        "y_embedder.embedding_table.weight",
        "blocks.0.adaLN_modulation.1.weight",
    ),
    diffusers_naming(
        "PixArt transformer",
        "PixArtTransformer2DModel",
        "pos_embed.proj.weight",
        "adaln_single.linear.weight",
    ),
)

_PARTS = (
    diffusers_naming(
        "UNet",
        "UNet2DModel",
        "conv_in.weight",
        "down_blocks.",
        "up_blocks.",
        "time_embedding.linear_1.weight",
    ),
    diffusers_naming("VAE", "AutoencoderKL", "encoder.down_blocks.", "decoder.up_blocks."),
    ldm_naming("VAE", "latent-diffusion", "encoder.down.", "decoder.up."),
    architecture(
        "CLIP text encoder", "CLIPTextModel", "text_model.embeddings.token_embedding.weight"
    ),
    architecture("prompt bank", "soupctl", "prompts.", "gate."),
    architecture("T5 encoder", "T5EncoderModel", "encoder.block.0.layer.0.SelfAttention.q.weight"),
)

PATTERNS = (*_UNETS, *RELEASES, *_TRANSFORMERS, *_PARTS)
"""All architectures that are known, special cases first."""
