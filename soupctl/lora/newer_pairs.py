"""The two namings of transformers after Flux and SD3, as in `lora.pairs`.

Rule 1: facts alone, each with its source; `{}` stands for the number of a block.
"""

from __future__ import annotations

from collections.abc import Mapping

from .name_pair import NamePair, fused, pairs

FLUX_2 = (
    # diffusers, convert_flux2_transformer_checkpoint_to_diffusers
    *pairs(
        {
            "img_in": "x_embedder",
            "txt_in": "context_embedder",
            "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
            "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
            "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
            "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
            "single_stream_modulation.lin": "single_stream_modulation.linear",
            "final_layer.linear": "proj_out",
            "double_blocks.{}.img_attn.norm.query_norm": "transformer_blocks.{}.attn.norm_q",
            "double_blocks.{}.img_attn.norm.key_norm": "transformer_blocks.{}.attn.norm_k",
            "double_blocks.{}.img_attn.proj": "transformer_blocks.{}.attn.to_out.0",
            "double_blocks.{}.img_mlp.0": "transformer_blocks.{}.ff.linear_in",
            "double_blocks.{}.img_mlp.2": "transformer_blocks.{}.ff.linear_out",
            "double_blocks.{}.txt_attn.norm.query_norm": "transformer_blocks.{}.attn.norm_added_q",
            "double_blocks.{}.txt_attn.norm.key_norm": "transformer_blocks.{}.attn.norm_added_k",
            "double_blocks.{}.txt_attn.proj": "transformer_blocks.{}.attn.to_add_out",
            "double_blocks.{}.txt_mlp.0": "transformer_blocks.{}.ff_context.linear_in",
            "double_blocks.{}.txt_mlp.2": "transformer_blocks.{}.ff_context.linear_out",
            "single_blocks.{}.linear1": "single_transformer_blocks.{}.attn.to_qkv_mlp_proj",
            "single_blocks.{}.linear2": "single_transformer_blocks.{}.attn.to_out",
            "single_blocks.{}.norm.query_norm": "single_transformer_blocks.{}.attn.norm_q",
            "single_blocks.{}.norm.key_norm": "single_transformer_blocks.{}.attn.norm_k",
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
)

AURAFLOW = (
    # diffusers, convert_auraflow_transformer_checkpoint_to_diffusers
    *pairs(
        {
            "t_embedder.mlp.0": "time_step_proj.linear_1",
            "t_embedder.mlp.2": "time_step_proj.linear_2",
            "cond_seq_linear": "context_embedder",
            "init_x_linear": "pos_embed.proj",
            "final_linear": "proj_out",
            "double_layers.{}.modX.1": "joint_transformer_blocks.{}.norm1.linear",
            "double_layers.{}.modC.1": "joint_transformer_blocks.{}.norm1_context.linear",
            "single_layers.{}.modCX.1": "single_transformer_blocks.{}.norm1.linear",
        }
        | {
            f"double_layers.{{}}.attn.w2{letter}": f"joint_transformer_blocks.{{}}.attn.{other}"
            for letter, other in zip("qkvo", ("to_q", "to_k", "to_v", "to_out.0"), strict=True)
        }
        | {
            f"double_layers.{{}}.attn.w1{letter}": f"joint_transformer_blocks.{{}}.attn.{other}"
            for letter, other in zip(
                "qkvo", ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"), strict=True
            )
        }
        | {
            f"single_layers.{{}}.attn.w1{letter}": f"single_transformer_blocks.{{}}.attn.{other}"
            for letter, other in zip("qkvo", ("to_q", "to_k", "to_v", "to_out.0"), strict=True)
        }
        | {
            f"{own}.{part}": f"{other}.{name}"
            for own, other in (
                ("double_layers.{}.mlpX", "joint_transformer_blocks.{}.ff"),
                ("double_layers.{}.mlpC", "joint_transformer_blocks.{}.ff_context"),
                ("single_layers.{}.mlp", "single_transformer_blocks.{}.ff"),
            )
            for part, name in (
                ("c_fc1", "linear_1"),
                ("c_fc2", "linear_2"),
                ("c_proj", "out_projection"),
            )
        }
    ),
    NamePair("modF.1", ("norm_out.linear",), is_swapped=True),
)

_WAN_BLOCK = {
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    **{f"self_attn.{letter}": f"attn1.to_{letter}" for letter in "qkv"},
    **{f"cross_attn.{letter}": f"attn2.to_{letter}" for letter in "qkv"},
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
    "modulation": "scale_shift_table",
    "before_proj": "proj_in",
    "after_proj": "proj_out",
}

WAN = pairs(
    # diffusers, convert_wan_transformer_to_diffusers
    {
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
        "head.head": "proj_out",
        "head.modulation": "scale_shift_table",
        "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
        "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
        "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
        "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    }
    | {
        f"{blocks}.{{}}.{own}": f"{blocks}.{{}}.{other}"
        for blocks in ("blocks", "vace_blocks")
        for own, other in _WAN_BLOCK.items()
    }
)

_STACKS = ("layers", "noise_refiner", "context_refiner")


def _of_stacks(names: Mapping[str, str]) -> tuple[NamePair, ...]:
    return pairs(
        {
            f"{stack}.{{}}.{own}": f"{stack}.{{}}.{other}"
            for stack in _STACKS
            for own, other in names.items()
        }
    )


NEXT_DIT = (
    # diffusers, convert_z_image_transformer_checkpoint_to_diffusers, convert_lumina2_to_diffusers
    *pairs(
        {
            "x_embedder": "all_x_embedder.2-1",
            "final_layer.linear": "all_final_layer.2-1.linear",
            "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
        }
    ),
    *_of_stacks(
        {
            "attention.out": "attention.to_out.0",
            "attention.q_norm": "attention.norm_q",
            "attention.k_norm": "attention.norm_k",
        }
    ),
    *pairs(
        {
            "cap_embedder.0": "time_caption_embed.caption_embedder.0",
            "cap_embedder.1": "time_caption_embed.caption_embedder.1",
            "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
            "final_layer.linear": "norm_out.linear_2",
            "final_layer.adaLN_modulation.1": "norm_out.linear_1",
            "context_refiner.{}.attention_norm1": "context_refiner.{}.norm1",
        }
    ),
    *_of_stacks(
        {
            "attention.out": "attn.to_out.0",
            "attention.q_norm": "attn.norm_q",
            "attention.k_norm": "attn.norm_k",
            "feed_forward.w1": "feed_forward.linear_1",
            "feed_forward.w2": "feed_forward.linear_2",
            "feed_forward.w3": "feed_forward.linear_3",
            "adaLN_modulation.1": "norm1.linear",
            "attention_norm1": "norm1.norm",
            "attention_norm2": "norm2",
        }
    ),
    *(
        # fewer rows for keys and values than for queries in Lumina 2
        NamePair(
            f"{stack}.{{}}.attention.qkv",
            tuple(f"{stack}.{{}}.{attention}.to_{letter}" for letter in "qkv"),
            is_grouped=True,
        )
        for stack in _STACKS
        for attention in ("attention", "attn")
    ),
)

LTX = pairs(
    # diffusers, convert_ltx_transformer_checkpoint_to_diffusers
    {
        "patchify_proj": "proj_in",
        "adaln_single.emb.timestep_embedder.linear_1": "time_embed.emb.timestep_embedder.linear_1",
        "adaln_single.emb.timestep_embedder.linear_2": "time_embed.emb.timestep_embedder.linear_2",
        "adaln_single.linear": "time_embed.linear",
        **{
            f"transformer_blocks.{{}}.{attention}.{letter}_norm": (
                f"transformer_blocks.{{}}.{attention}.norm_{letter}"
            )
            for attention in ("attn1", "attn2")
            for letter in "qk"
        },
    }
)
