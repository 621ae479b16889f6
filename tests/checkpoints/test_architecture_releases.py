"""A release of a model is told from those that differ from it in one tensor or two."""

from __future__ import annotations

import pytest
from model_shapes import LDM, tensors

from soupctl.checkpoints.architecture import guess_architecture

HUNYUAN = "txt_in.individual_token_refiner.blocks.0.norm1.weight"
FLUX = {
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    "single_blocks.0.norm.key_norm.scale": (128,),
    "vector_in.in_layer.weight": (3072, 768),
    "img_in.weight": (3072, 64),
    "txt_in.weight": (3072, 4096),
}
WAN = {
    "head.modulation": (1, 2, 5120),
    "head.head.weight": (64, 5120),
    "blocks.0.ffn.0.weight": (13824, 5120),
    "patch_embedding.weight": (5120, 16, 1, 2, 2),
}
QWEN = {
    "txt_norm.weight": (3584,),
    "img_in.weight": (3072, 64),
    "proj_out.weight": (64, 3072),
    "transformer_blocks.0.attn.add_q_proj.weight": (3072, 3072),
}
PIXART = {"t_block.1.weight": (6912, 1152), "blocks.0.attn.qkv.weight": (3456, 1152)}
LTX = {
    "patchify_proj.weight": (2048, 128),
    "adaln_single.linear.weight": (12288, 2048),
    "transformer_blocks.0.attn2.to_k.weight": (2048, 2048),
}
LUMINA = {
    "cap_embedder.1.weight": (2304, 2304),
    "noise_refiner.0.attention.k_norm.weight": (96,),
    "x_embedder.weight": (2304, 64),
}
MMDIT = {
    "joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536),
    "x_embedder.proj.weight": (1536, 16, 2, 2),
}
COSMOS = {"blocks.0.mlp.layer1.weight": (8192, 2048), "x_embedder.proj.1.weight": (2048, 68)}

NEIGHBOURS = [
    ("SD 3 transformer, LDM naming", MMDIT),
    (
        "SD 3.5 transformer, original naming",
        {**MMDIT, "joint_blocks.0.context_block.attn.ln_q.weight": (64,)},
    ),
    (
        "SD 3.5 Medium transformer, original naming",
        {
            **MMDIT,
            "joint_blocks.0.context_block.attn.ln_q.weight": (64,),
            "joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536),
        },
    ),
    # Kontext, Krea dev and schnell have the same tensors, but for the guidance
    ("Flux.1 transformer, LDM naming", FLUX),
    ("Flux.1 Fill transformer, LDM naming", {**FLUX, "img_in.weight": (3072, 384)}),
    (
        "Flux.2 transformer, original naming",
        {**FLUX, "double_stream_modulation_img.lin.weight": (36864, 6144)},
    ),
    (
        "Flux.3 transformer, original naming",
        {"early_stream_modulations.image.lin.weight": (9216, 3072)},
    ),
    (
        "Chroma transformer, original naming",
        {**FLUX, "distilled_guidance_layer.norms.0.scale": (5120,)},
    ),
    (
        "Chroma Radiance transformer, original naming",
        {
            **FLUX,
            "distilled_guidance_layer.norms.0.scale": (5120,),
            "nerf_blocks.0.norm.scale": (64,),
        },
    ),
    ("LongCat-Image transformer, original naming", {**FLUX, "txt_in.weight": (3072, 3584)}),
    (
        "Ovis-Image transformer, original naming",
        {**FLUX, "double_blocks.0.img_mlp.gate_proj.weight": (8192, 3072)},
    ),
    (
        "Krea 2 transformer, original naming",
        {"txtfusion.projector.weight": (2560, 4), "first.weight": (3072, 64)},
    ),
    ("Qwen-Image transformer", QWEN),
    ("Qwen-Image-Edit 2511 transformer", {**QWEN, "__index_timestep_zero__": (0,)}),
    (
        "Qwen-Image-Layered transformer",
        {**QWEN, "time_text_embed.addition_t_embedding.weight": (2, 3072)},
    ),
    (
        "Qwen-Image 2.1 transformer",
        {
            "txt_in.text_norm.weight": (4096,),
            "modulation.1.weight": (16384, 4096),
            "img_in.weight": (4096, 64),
        },
    ),
    (None, {**QWEN, "txt_norm.weight": (2560,), "proj_out.weight": (128, 3072)}),
    ("Wan 2.1 or 2.2 transformer, original naming", WAN),
    (
        "Wan 2.1 image-to-video transformer, original naming",
        {
            **WAN,
            "patch_embedding.weight": (5120, 36, 1, 2, 2),
            "img_emb.proj.0.bias": (1280,),
        },
    ),
    (
        "Wan 2.1 first-and-last-frame transformer, original naming",
        {
            **WAN,
            "patch_embedding.weight": (5120, 36, 1, 2, 2),
            "img_emb.proj.0.bias": (1280,),
            "img_emb.emb_pos": (1, 514, 1280),
        },
    ),
    (
        "Wan 2.2 image-to-video transformer, original naming",
        {**WAN, "patch_embedding.weight": (5120, 36, 1, 2, 2)},
    ),
    (
        "Wan 2.2 5B transformer, original naming",
        {**WAN, "patch_embedding.weight": (3072, 48, 1, 2, 2)},
    ),
    (
        "Wan VACE transformer, original naming",
        {**WAN, "vace_patch_embedding.weight": (5120, 96, 1, 2, 2)},
    ),
    (
        "Wan Animate transformer, original naming",
        {
            **WAN,
            "img_emb.proj.0.bias": (1280,),
            "face_adapter.fuser_blocks.0.k_norm.weight": (128,),
        },
    ),
    ("LTX-Video transformer, original naming", LTX),
    (
        "LTX-2 transformer, original naming",
        {**LTX, "audio_adaln_single.linear.weight": (12288, 2048)},
    ),
    (
        "HunyuanVideo transformer, original naming",
        {
            HUNYUAN: (3072,),
            "img_in.proj.weight": (3072, 16, 1, 2, 2),
            "vector_in.in_layer.weight": (3072, 768),
        },
    ),
    (
        "HunyuanVideo 1.5 transformer, original naming",
        {
            HUNYUAN: (2048,),
            "img_in.proj.weight": (2048, 65, 1, 1, 1),
            "cond_type_embedding.weight": (3, 2048),
        },
    ),
    (
        "HunyuanImage transformer, original naming",
        {
            HUNYUAN: (3584,),
            "img_in.proj.weight": (3584, 64, 1, 1),
            "double_blocks.0.img_attn_q.weight": (2, 2),
        },
    ),
    (
        "Hunyuan-DiT, original naming",
        {"mlp_t5.0.weight": (8192, 2048), "blocks.0.norm1.weight": (1408,)},
    ),
    (
        "Hunyuan3D 2 transformer, original naming",
        {"latent_in.weight": (1024, 64), "double_blocks.0.w": (2,), "single_blocks.0.w": (2,)},
    ),
    (
        "PixArt-alpha transformer, original naming",
        {**PIXART, "y_embedder.y_embedding": (120, 4096)},
    ),
    (
        "PixArt-Sigma transformer, original naming",
        {**PIXART, "y_embedder.y_embedding": (300, 4096)},
    ),
    (
        "Sana transformer, original naming",
        {
            **PIXART,
            "attention_y_norm.weight": (2240,),
            "blocks.0.mlp.inverted_conv.conv.weight": (11200, 2240, 1, 1),
        },
    ),
    ("Lumina 2 transformer, original naming", LUMINA),
    ("Z-Image transformer, original naming", {**LUMINA, "cap_pad_token": (1, 3840)}),
    (
        "OmniGen2 transformer, original naming",
        {
            "ref_image_patch_embedder.weight": (2520, 64),
            "noise_refiner.0.attn.to_q.weight": (2, 2),
            "time_caption_embed.caption_embedder.0.weight": (2048,),
            "x_embedder.weight": (2520, 64),
        },
    ),
    ("Cosmos-Predict2 transformer, original naming", COSMOS),
    (
        "Anima transformer, original naming",
        {**COSMOS, "llm_adapter.blocks.0.cross_attn.q_proj.weight": (2, 2)},
    ),
    (
        "HiDream-O1 transformer, original naming",
        {"t_embedder1.mlp.0.weight": (2, 2), "x_embedder.proj1.weight": (2, 2)},
    ),
]


@pytest.mark.parametrize("prefix", ["", LDM])
@pytest.mark.parametrize(("title", "shapes"), NEIGHBOURS, ids=lambda each: str(each)[:40])
def test_a_release_is_not_mistaken_for_its_neighbours(title, shapes, prefix):
    named = tensors({prefix + name: shape for name, shape in shapes.items()})

    assert title == guess_architecture(named)
