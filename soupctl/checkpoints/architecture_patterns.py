"""All architectures by tensors that identify them: data, in one place.

Rule 1: the first pattern that fits wins, so special cases stand before general ones.
Rule 2: the source of a pattern is the code that names the tensors: a class of diffusers, or the
release of the model.
"""

from __future__ import annotations

from .architecture_pattern import architecture, diffusers_naming, ldm_naming
from .architecture_releases import RELEASES
from .architecture_transformers import TRANSFORMERS

PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "transformer.", "model.", "net.")
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
FIRST = ("conv_in.weight", _LDM + "input_blocks.0.0.weight")
"""The first convolution of a UNet."""
INPUTS = {9: "inpainting", 8: "InstructPix2Pix", 7: "upscaler", 5: "depth"}
"""Its numbers of input channels where they are not those of a latent image, and what such models
take (stablediffusion, configs; diffusers, single_file_utils.py)."""
INPUTS_OF = ("SD", "Kolors")
"""The beginnings of the titles of models that this is said of."""

CONTROLS = (
    *("controlnet_blocks.", "controlnet_down_blocks.", "controlnet_cond_embedding."),
    *("controlnet_x_embedder.", "control_model.", "control_blocks.", "control_layers."),
)
"""Prefixes in a ControlNet (diffusers, models/controlnets; ControlNet, cldm.py; VideoX-Fun)."""

_UNETS = (
    diffusers_naming(
        "Stable Video Diffusion UNet",
        "UNetSpatioTemporalConditionModel",
        "down_blocks.0.attentions.0.temporal_transformer_blocks.0.norm_in.weight",
    ),
    ldm_naming(
        "Stable Video Diffusion",
        "generative-models, video_attention.py",
        _LDM + "input_blocks.1.1.time_stack.0.attn1.to_q.weight",
    ),
    diffusers_naming("text-to-video UNet", "UNet3DConditionModel", "transformer_in.norm.weight"),
    diffusers_naming(
        "AnimateDiff UNet", "UNetMotionModel", "down_blocks.0.motion_modules.", "conv_in.weight"
    ),
    architecture(
        "AnimateDiff motion module", "MotionAdapter; AnimateDiff", "down_blocks.0.motion_modules."
    ),
    diffusers_naming(
        "Kolors UNet", "UNet2DConditionModel, Kolors", ("encoder_hid_proj.weight", {1: 4096})
    ),
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

PATTERNS = (*_UNETS, *RELEASES, *TRANSFORMERS, *_PARTS)
"""All architectures that are known, special cases first."""
