"""The smallest denoisers and autoencoders that diffusers will still build, save, load and run.

Rule 1: they are small in what tests do not look at; what a test looks at, it says.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiTTransformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)


def drawn(model: Any, seed: int, size: float = 1 / 8) -> Any:
    """The model with all its parameters drawn anew: biases and norms are else equal in all."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        parameter.data.copy_(size * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def dit(**changes: object) -> DiTTransformer2DModel:
    """A transformer of 4x4 latents in four tokens."""
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 2,
        "sample_size": 4,
        "patch_size": 2,
        "num_embeds_ada_norm": 3,
        "norm_num_groups": 4,
    }
    return DiTTransformer2DModel(**{**config, **changes})


def unet(**changes: object) -> UNet2DModel:
    """A U-Net of images, told of no class."""
    config = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (8, 8),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 4,
    }
    return UNet2DModel(**{**config, **changes})


def text_unet(**changes: object) -> UNet2DConditionModel:
    """A U-Net of 4x4 latents, told of texts."""
    config = {
        "sample_size": 4,
        "layers_per_block": 1,
        "block_out_channels": (8, 8),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 8,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**{**config, **changes})


def autoencoder(**changes: object) -> AutoencoderKL:
    """What makes 4x4 latents of 8x8 images."""
    config = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "layers_per_block": 1,
        "sample_size": 8,
    }
    return AutoencoderKL(**{**config, **changes})


def quantising(**changes: object) -> VQModel:
    """What makes 4x4 latents of 8x8 images, and rounds them to one of 16 vectors to decode them."""
    config = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 3,
        "num_vq_embeddings": 16,
        "sample_size": 8,
        "scaling_factor": 0.5,
    }
    return VQModel(**{**config, **changes})
