"""The three namings of HunyuanVideo: Tencent's, ComfyUI's and that of diffusers.

Rule 1: facts alone: diffusers, convert_hunyuan_video_transformer_to_diffusers; ComfyUI,
comfy/ldm/hunyuan_video/model.py.
"""

from __future__ import annotations

from .name_pair import NamePair, fused, pairs

_REFINER = "txt_in.individual_token_refiner.blocks.{}."
_REFINER_BLOCK = "context_embedder.token_refiner.refiner_blocks.{}."

_TEXT_LAYERS = (
    "attn.to_add_out",
    "ff_context.net.0.proj",
    "ff_context.net.2",
    "norm1_context.linear",
)
_NAMES = (
    # Tencent's, ComfyUI's, and that of diffusers
    *(
        (f"double_blocks.{{}}.{kind}_{own}", f"double_blocks.{{}}.{kind}_{comfy}", other)
        for kind, others in (
            ("img", ("attn.to_out.0", "ff.net.0.proj", "ff.net.2", "norm1.linear")),
            ("txt", _TEXT_LAYERS),
        )
        for own, comfy, other in zip(
            ("attn_proj", "mlp.fc1", "mlp.fc2", "mod.linear"),
            ("attn.proj", "mlp.0", "mlp.2", "mod.lin"),
            (f"transformer_blocks.{{}}.{each}" for each in others),
            strict=True,
        )
    ),
    (
        "single_blocks.{}.modulation.linear",
        "single_blocks.{}.modulation.lin",
        "single_transformer_blocks.{}.norm.linear",
    ),
    ("time_in.mlp.0", "time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.mlp.2", "time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("guidance_in.mlp.0", "guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.mlp.2", "guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    (f"{_REFINER}self_attn_proj", f"{_REFINER}self_attn.proj", f"{_REFINER_BLOCK}attn.to_out.0"),
    (f"{_REFINER}mlp.fc1", f"{_REFINER}mlp.0", f"{_REFINER_BLOCK}ff.net.0.proj"),
    (f"{_REFINER}mlp.fc2", f"{_REFINER}mlp.2", f"{_REFINER_BLOCK}ff.net.2"),
)

_FUSED = (
    *(
        (
            f"double_blocks.{{}}.{kind}_attn_qkv",
            f"double_blocks.{{}}.{kind}_attn.qkv",
            tuple(f"transformer_blocks.{{}}.attn.{form.format(letter)}" for letter in "qkv"),
        )
        for kind, form in (("img", "to_{}"), ("txt", "add_{}_proj"))
    ),
    (
        f"{_REFINER}self_attn_qkv",
        f"{_REFINER}self_attn.qkv",
        tuple(f"{_REFINER_BLOCK}attn.to_{letter}" for letter in "qkv"),
    ),
)

HUNYUAN_VIDEO = (
    *pairs(
        {
            "img_in.proj": "x_embedder.proj",
            "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
            "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
            "final_layer.linear": "proj_out",
            "single_blocks.{}.linear2": "single_transformer_blocks.{}.proj_out",
            "txt_in.input_embedder": "context_embedder.proj_in",
            f"{_REFINER}adaLN_modulation.1": f"{_REFINER_BLOCK}norm_out.linear",
        }
    ),
    *(NamePair(own, (other,)) for own, _, other in _NAMES),
    *(NamePair(comfy, (other,)) for _, comfy, other in _NAMES),
    *(NamePair(own, (comfy,)) for own, comfy, _ in (*_NAMES, *_FUSED)),
    *(fused(own, *parts) for own, _, parts in _FUSED),
    *(fused(comfy, *parts) for _, comfy, parts in _FUSED),
    fused(
        "single_blocks.{}.linear1",
        *(f"single_transformer_blocks.{{}}.attn.to_{letter}" for letter in "qkv"),
        "single_transformer_blocks.{}.proj_mlp",
    ),
    NamePair("final_layer.adaLN_modulation.1", ("norm_out.linear",), is_swapped=True),
)
