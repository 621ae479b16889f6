"""The two namings of each architecture: the original one, and that of diffusers.

Rule 1: facts alone, each with its source; `{}` stands for the number of a block.
Rule 2: a fused matrix is the rows of its parts, in their order.
"""

from __future__ import annotations

from .hunyuan_pairs import HUNYUAN_VIDEO
from .name_pair import NamePair, fused, pairs
from .newer_pairs import AURAFLOW, FLUX_2, LTX, NEXT_DIT, WAN

RESNET = {
    "in_layers.0": "norm1",
    "out_layers.0": "norm2",
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
"""Within a resnet of a UNet (diffusers, convert_ldm_unet_checkpoint)."""

UNET = pairs(
    {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": "add_embedding.linear_1",
        "label_emb.0.2": "add_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
)
"""Outside the blocks of a UNet (the same)."""

FLUX = (
    # diffusers, convert_flux_transformer_checkpoint_to_diffusers
    *pairs(
        {
            "img_in": "x_embedder",
            "txt_in": "context_embedder",
            "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
            "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
            "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
            "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
            "final_layer.linear": "proj_out",
            "double_blocks.{}.img_mod.lin": "transformer_blocks.{}.norm1.linear",
            "double_blocks.{}.txt_mod.lin": "transformer_blocks.{}.norm1_context.linear",
            "double_blocks.{}.img_attn.proj": "transformer_blocks.{}.attn.to_out.0",
            "double_blocks.{}.txt_attn.proj": "transformer_blocks.{}.attn.to_add_out",
            "double_blocks.{}.img_mlp.0": "transformer_blocks.{}.ff.net.0.proj",
            "double_blocks.{}.img_mlp.2": "transformer_blocks.{}.ff.net.2",
            "double_blocks.{}.txt_mlp.0": "transformer_blocks.{}.ff_context.net.0.proj",
            "double_blocks.{}.txt_mlp.2": "transformer_blocks.{}.ff_context.net.2",
            "single_blocks.{}.linear2": "single_transformer_blocks.{}.proj_out",
            "single_blocks.{}.modulation.lin": "single_transformer_blocks.{}.norm.linear",
        }
    ),
    NamePair("final_layer.adaLN_modulation.1", ("norm_out.linear",), is_swapped=True),
    fused(
        "double_blocks.{}.img_attn.qkv",
        *(f"transformer_blocks.{{}}.attn.to_{letter}" for letter in "qkv"),
    ),
    fused(
        "double_blocks.{}.txt_attn.qkv",
        *(f"transformer_blocks.{{}}.attn.add_{letter}_proj" for letter in "qkv"),
    ),
    fused(
        "single_blocks.{}.linear1",
        *(f"single_transformer_blocks.{{}}.attn.to_{letter}" for letter in "qkv"),
        "single_transformer_blocks.{}.proj_mlp",
    ),
)

FLUX_NORMS = pairs(
    {
        "double_blocks.{}.img_attn.norm.query_norm": "transformer_blocks.{}.attn.norm_q",
        "double_blocks.{}.img_attn.norm.key_norm": "transformer_blocks.{}.attn.norm_k",
        "double_blocks.{}.txt_attn.norm.query_norm": "transformer_blocks.{}.attn.norm_added_q",
        "double_blocks.{}.txt_attn.norm.key_norm": "transformer_blocks.{}.attn.norm_added_k",
        "single_blocks.{}.norm.query_norm": "single_transformer_blocks.{}.attn.norm_q",
        "single_blocks.{}.norm.key_norm": "single_transformer_blocks.{}.attn.norm_k",
    }
)
"""Layers whose weights Flux calls `scale` (the same)."""

CHROMA = pairs(
    # diffusers, convert_chroma_transformer_checkpoint_to_diffusers
    {
        "distilled_guidance_layer.layers.{}.in_layer": (
            "distilled_guidance_layer.layers.{}.linear_1"
        ),
        "distilled_guidance_layer.layers.{}.out_layer": (
            "distilled_guidance_layer.layers.{}.linear_2"
        ),
    }
)

SD3 = (
    # diffusers, convert_sd3_transformer_checkpoint_to_diffusers
    *pairs(
        {
            "x_embedder.proj": "pos_embed.proj",
            "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
            "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
            "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
            "final_layer.linear": "proj_out",
            "joint_blocks.{}.x_block.adaLN_modulation.1": "transformer_blocks.{}.norm1.linear",
            "joint_blocks.{}.x_block.attn.proj": "transformer_blocks.{}.attn.to_out.0",
            "joint_blocks.{}.x_block.attn2.proj": "transformer_blocks.{}.attn2.to_out.0",
            "joint_blocks.{}.context_block.attn.proj": "transformer_blocks.{}.attn.to_add_out",
            "joint_blocks.{}.x_block.mlp.fc1": "transformer_blocks.{}.ff.net.0.proj",
            "joint_blocks.{}.x_block.mlp.fc2": "transformer_blocks.{}.ff.net.2",
            "joint_blocks.{}.context_block.mlp.fc1": "transformer_blocks.{}.ff_context.net.0.proj",
            "joint_blocks.{}.context_block.mlp.fc2": "transformer_blocks.{}.ff_context.net.2",
            "joint_blocks.{}.x_block.attn.ln_q": "transformer_blocks.{}.attn.norm_q",
            "joint_blocks.{}.x_block.attn.ln_k": "transformer_blocks.{}.attn.norm_k",
            "joint_blocks.{}.x_block.attn2.ln_q": "transformer_blocks.{}.attn2.norm_q",
            "joint_blocks.{}.x_block.attn2.ln_k": "transformer_blocks.{}.attn2.norm_k",
            "joint_blocks.{}.context_block.attn.ln_q": "transformer_blocks.{}.attn.norm_added_q",
            "joint_blocks.{}.context_block.attn.ln_k": "transformer_blocks.{}.attn.norm_added_k",
        }
    ),
    NamePair(
        "joint_blocks.{}.context_block.adaLN_modulation.1",
        ("transformer_blocks.{}.norm1_context.linear",),
    ),
    NamePair("final_layer.adaLN_modulation.1", ("norm_out.linear",), is_swapped=True),
    *(
        fused(
            f"joint_blocks.{{}}.x_block.{attention}.qkv",
            *(f"transformer_blocks.{{}}.{attention}.to_{letter}" for letter in "qkv"),
        )
        for attention in ("attn", "attn2")
    ),
    fused(
        "joint_blocks.{}.context_block.attn.qkv",
        *(f"transformer_blocks.{{}}.attn.add_{letter}_proj" for letter in "qkv"),
    ),
)
SWAPPED_IF_TWO = "joint_blocks.{}.context_block.adaLN_modulation.1"
"""For SD3's last block, which has only a shift and a scale, in swapped order."""

OPEN_CLIP = (
    # diffusers, convert_open_clip_checkpoint
    *pairs(
        {
            "transformer.resblocks.{}.attn.out_proj": "encoder.layers.{}.self_attn.out_proj",
            "transformer.resblocks.{}.mlp.c_fc": "encoder.layers.{}.mlp.fc1",
            "transformer.resblocks.{}.mlp.c_proj": "encoder.layers.{}.mlp.fc2",
            "transformer.resblocks.{}.ln_1": "encoder.layers.{}.layer_norm1",
            "transformer.resblocks.{}.ln_2": "encoder.layers.{}.layer_norm2",
            "ln_final": "final_layer_norm",
            "token_embedding": "embeddings.token_embedding",
        }
    ),
    fused(
        "transformer.resblocks.{}.attn.in_proj",
        *(f"encoder.layers.{{}}.self_attn.{letter}_proj" for letter in "qkv"),
    ),
)

ARCHITECTURES = (
    # prefixes of modules' names in either naming, and the pairs of that model
    (("double_stream_modulation_img.",), FLUX_2),
    (("double_layers.", "joint_transformer_blocks."), AURAFLOW),
    (("txt_in.individual_token_refiner.", "context_embedder.token_refiner."), HUNYUAN_VIDEO),
    (("double_blocks.", "single_transformer_blocks."), (*FLUX, *FLUX_NORMS, *CHROMA)),
    (("patch_embedding",), WAN),
    (("noise_refiner.", "context_refiner."), NEXT_DIT),
    (("patchify_proj", "time_embed.emb."), LTX),
    (("joint_blocks.", "pos_embed.proj", "transformer_blocks."), SD3),
    (("input_blocks.", "down_blocks."), UNET),
    (("transformer.resblocks.", "encoder.layers."), OPEN_CLIP),
)
"""The first table that fits a model is used, since some block names are in several tables."""

FUSED = (
    # the last part of the name of a fused module, and those of its parts, in any model
    ("to_qkv", ("to_q", "to_k", "to_v")),
    ("to_kv", ("to_k", "to_v")),
    ("to_added_qkv", ("add_q_proj", "add_k_proj", "add_v_proj")),
    ("qkv", ("to_q", "to_k", "to_v")),
    ("qkv", ("q", "k", "v")),
    ("qkv_proj", ("q_proj", "k_proj", "v_proj")),
)
"""Fused projections of diffusers (`fuse_qkv_projections`) and of others, in their order."""
