"""The configs of UNets, Flux and autoencoders.

Sources: the configs of the published pipelines of Stable Diffusion 1.5, 2.1, XL and Flux.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .shapes import Shapes, counted, first, groups, size, widths

HEAD = 64
"""Channels of a head where their number is the same at each level (SD 2, SDXL)."""
HEADS = 8
"""Heads of each attention in SD 1."""
TIME_IDS = {True: 5, False: 6}
"""Numbers that SDXL is told of an image; the refiner is told a score in place of two."""
LATENT_SIZES = {"Stable Diffusion 1": 64, "Stable Diffusion 2": 96}
XL_SIZE = 128
SCALINGS: Mapping[str, Mapping[str, Any]] = {
    "Stable Diffusion 1": {"scaling_factor": 0.18215, "sample_size": 512, "force_upcast": False},
    "Stable Diffusion 2": {"scaling_factor": 0.18215, "sample_size": 768, "force_upcast": False},
    "Stable Diffusion XL": {"scaling_factor": 0.13025, "sample_size": 1024},
    "Stable Diffusion XL refiner": {"scaling_factor": 0.13025, "sample_size": 1024},
    "Flux": {"scaling_factor": 0.3611, "shift_factor": 0.1159, "sample_size": 1024},
}
"""What the latents of each family are multiplied by, and what is added to them."""


def unet_config(shapes: Shapes, family: str, pooled: int) -> dict[str, Any]:
    """The config of a UNet that is told a pooled text of width `pooled`, 0 for none."""
    channels = list(widths(shapes, "down_blocks."))
    attends = [
        any(name.startswith(f"down_blocks.{number}.attentions.") for name in shapes)
        for number in range(len(channels))
    ]
    is_linear = len(first(shapes, ".proj_in.weight")) == 2
    depths = [
        counted(shapes, f"down_blocks.{number}.attentions.0.transformer_blocks.") or 1
        for number in range(len(channels))
    ]
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": [max(1, each // HEAD) for each in channels] if is_linear else HEADS,
        "block_out_channels": channels,
        "cross_attention_dim": size({"k": first(shapes, ".attn2.to_k.weight")}, "k", 1),
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "in_channels": size(shapes, "conv_in.weight", 1),
        "layers_per_block": counted(shapes, "down_blocks.0.resnets."),
        "norm_num_groups": groups(channels),
        "out_channels": size(shapes, "conv_out.weight", 0),
        "sample_size": LATENT_SIZES.get(family, XL_SIZE),
        "transformer_layers_per_block": depths if set(depths) != {1} else 1,
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
        "use_linear_projection": is_linear,
    }
    if family == "Stable Diffusion 2":
        config["upcast_attention"] = True
    told = size(shapes, "add_embedding.linear_1.weight", 1)
    if told:
        numbers = TIME_IDS[family.endswith("refiner")]
        is_even = pooled and (told - pooled) % numbers == 0
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (told - pooled) // numbers if is_even else 256,
            "projection_class_embeddings_input_dim": told,
        }
    return config


def flux_config(shapes: Shapes) -> dict[str, Any]:
    """The config of the transformer of a Flux."""
    width = size(shapes, "x_embedder.weight", 0)
    head = size(shapes, "transformer_blocks.0.attn.norm_q.weight", 0, 128)
    # the published axes are 16, 56 and 56 of 128; each takes an even number
    side = head * 7 // 16 // 2 * 2
    return {
        "_class_name": "FluxTransformer2DModel",
        "attention_head_dim": head,
        "axes_dims_rope": [head - 2 * side, side, side],
        "guidance_embeds": any(".guidance_embedder." in name for name in shapes),
        "in_channels": size(shapes, "x_embedder.weight", 1),
        "joint_attention_dim": size(shapes, "context_embedder.weight", 1),
        "num_attention_heads": width // head if head else 0,
        "num_layers": counted(shapes, "transformer_blocks."),
        "num_single_layers": counted(shapes, "single_transformer_blocks."),
        "out_channels": size(shapes, "proj_out.weight", 0),
        "patch_size": 1,
        "pooled_projection_dim": size(shapes, "time_text_embed.text_embedder.linear_1.weight", 1),
    }


def autoencoder_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """The config of an autoencoder."""
    channels = list(widths(shapes, "encoder.down_blocks."))
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "in_channels": size(shapes, "encoder.conv_in.weight", 1),
        "latent_channels": size(shapes, "decoder.conv_in.weight", 1),
        "layers_per_block": counted(shapes, "encoder.down_blocks.0.resnets."),
        "norm_num_groups": groups(channels),
        "out_channels": size(shapes, "decoder.conv_out.weight", 0),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
        **SCALINGS[family],
    }
