"""The named blocks of transformers: data, in one place; see `families`."""

from __future__ import annotations

from .block_family import VAE, block_family, joined, numbered

_FLUX_OTHERS = joined(
    VAE,
    {
        "CLIP": ("text_encoders.clip_l.*", "text_model.*"),
        "T5": ("text_encoders.t5xxl.*", "shared.*", "encoder.block.*"),
    },
    {"T5": ("encoder.final_layer_norm.*", "encoder.embed_tokens.*")},
)


_SINGLE = ("single_transformer_blocks.",)
_STREAMS = joined(
    {"IN": ("img_in.*", "txt_in.*", "time_in.*", "vector_in.*", "guidance_in.*")},
    numbered("D", "double_blocks.{}.*"),
    numbered("S", "single_blocks.{}.*"),
    {"OUT": ("final_layer.*",)},
)
_STREAMS_OF_DIFFUSERS = joined(
    {"IN": ("x_embedder.*", "context_embedder.*", "time_text_embed.*")},
    numbered("D", "transformer_blocks.{}.*"),
    numbered("S", "single_transformer_blocks.{}.*"),
    {"OUT": ("norm_out.*", "proj_out.*")},
)
_MODULATION = {
    "MOD": (
        "double_stream_modulation_img.*",
        "double_stream_modulation_txt.*",
        "single_stream_modulation.*",
    )
}
_GUIDANCE = {"GUIDE": ("distilled_guidance_layer.*",)}
_FLUX, _CHROMA = "Flux", "Chroma"
_HUNYUAN = "HunyuanVideo or HunyuanImage"

TRANSFORMERS = (
    # SuperMerger, BLOCKIDFLUX
    block_family(
        _CHROMA,
        ("distilled_guidance_layer.",),
        ("double_blocks.", "single_blocks."),
        blocks=joined(_STREAMS, _GUIDANCE),
        others=_FLUX_OTHERS,
    ),
    block_family(
        _CHROMA,
        ("distilled_guidance_layer.",),
        _SINGLE,
        blocks=joined(_STREAMS_OF_DIFFUSERS, _GUIDANCE),
        others=_FLUX_OTHERS,
    ),
    # Flux.2's modulations are those of all blocks (flux2, model.py; Flux2Transformer2DModel)
    block_family(
        "Flux.2",
        ("double_stream_modulation_img.",),
        ("double_blocks.", "single_blocks."),
        blocks=joined(_STREAMS, _MODULATION),
    ),
    block_family(
        "Flux.2",
        ("double_stream_modulation_img.",),
        _SINGLE,
        blocks=joined(_STREAMS_OF_DIFFUSERS, _MODULATION, {"IN": ("time_guidance_embed.*",)}),
    ),
    # AuraFlow's mmdit.py, and AuraFlowTransformer2DModel
    block_family(
        "AuraFlow",
        ("double_layers.", "single_layers."),
        ("init_x_linear.", "cond_seq_linear."),
        blocks=joined(
            {"IN": ("init_x_linear.*", "cond_seq_linear.*", "t_embedder.*")},
            {"IN": ("positional_encoding", "register_tokens")},
            numbered("D", "double_layers.{}.*"),
            numbered("S", "single_layers.{}.*"),
            {"OUT": ("modF.*", "final_linear.*")},
        ),
    ),
    block_family(
        "AuraFlow",
        ("joint_transformer_blocks.",),
        blocks=joined(
            {"IN": ("pos_embed.*", "context_embedder.*", "time_step_proj.*", "register_tokens")},
            numbered("D", "joint_transformer_blocks.{}.*"),
            numbered("S", "single_transformer_blocks.{}.*"),
            {"OUT": ("norm_out.*", "proj_out.*")},
        ),
    ),
    # HunyuanVideo's models.py and HunyuanImage's hunyuanimage_dit.py, with what 1.5 embeds besides
    block_family(
        _HUNYUAN,
        ("txt_in.individual_token_refiner.",),
        ("double_blocks.",),
        blocks=joined(
            _STREAMS,
            {"IN": ("byt5_in.*", "vision_in.*", "cond_type_embedding.*", "time_r_in.*")},
        ),
    ),
    # HunyuanVideoTransformer3DModel and others
    block_family(
        _HUNYUAN,
        ("context_embedder.token_refiner.",),
        ("transformer_blocks.",),
        blocks=joined(
            _STREAMS_OF_DIFFUSERS,
            {"IN": ("context_embedder_2.*", "image_embedder.*", "time_embed.*")},
            {"IN": ("cond_type_embed.*", "time_guidance_embed.*")},
        ),
    ),
    block_family(
        _FLUX,
        ("double_blocks.", "single_blocks."),
        # Hunyuan3D
        absent=("latent_in.",),
        blocks=_STREAMS,
        others=_FLUX_OTHERS,
    ),
    block_family(_FLUX, _SINGLE, blocks=_STREAMS_OF_DIFFUSERS, others=_FLUX_OTHERS),
    # Stability's mmdit.py, and SD3Transformer2DModel
    block_family(
        "SD 3",
        ("joint_blocks.",),
        blocks=joined(
            {"IN": ("x_embedder.*", "context_embedder.*", "t_embedder.*", "y_embedder.*")},
            {"IN": ("pos_embed",)},
            numbered("J", "joint_blocks.{}.*"),
            {"OUT": ("final_layer.*",)},
        ),
    ),
    # QwenImageTransformer2DModel
    block_family(
        "Qwen-Image",
        ("transformer_blocks.",),
        ("txt_norm.", "img_in."),
        blocks=joined(
            {"IN": ("img_in.*", "txt_in.*", "txt_norm.*", "time_text_embed.*")},
            numbered("T", "transformer_blocks.{}.*"),
            {"OUT": ("norm_out.*", "proj_out.*")},
        ),
    ),
    block_family(
        "SD 3",
        ("transformer_blocks.",),
        ("context_embedder.",),
        ("pos_embed.",),
        blocks=joined(
            {"IN": ("pos_embed.*", "context_embedder.*", "time_text_embed.*")},
            numbered("J", "transformer_blocks.{}.*"),
            {"OUT": ("norm_out.*", "proj_out.*")},
        ),
    ),
    # Wan's model.py, and WanTransformer3DModel
    block_family(
        "Wan",
        ("blocks.",),
        ("patch_embedding.",),
        blocks=joined(
            {"IN": ("patch_embedding.*", "text_embedding.*", "time_embedding.*")},
            {"IN": ("time_projection.*", "img_emb.*", "condition_embedder.*", "ref_conv.*")},
            numbered("B", "blocks.{}.*"),
            # of VACE models
            {"IN": ("vace_patch_embedding.*",)},
            numbered("V", "vace_blocks.{}.*"),
            {"OUT": ("head.*", "scale_shift_table", "proj_out.*")},
        ),
    ),
    # ZImageTransformer2DModel; merging tools use these names for the refiners
    block_family(
        "Z-Image",
        ("layers.",),
        ("cap_pad_token", "all_x_embedder."),
        blocks=joined(
            {"IN": ("x_embedder.*", "all_x_embedder.*", "t_embedder.*", "cap_embedder.*")},
            {"IN": ("x_pad_token", "cap_pad_token")},
            {"CONT": ("context_refiner.*",), "NOISE": ("noise_refiner.*",)},
            numbered("L", "layers.{}.*"),
            {"OUT": ("final_layer.*", "all_final_layer.*")},
        ),
    ),
    # Lumina-Image 2.0's model.py, and Lumina2Transformer2DModel
    block_family(
        "Lumina 2",
        ("layers.",),
        ("cap_embedder.", "time_caption_embed."),
        ("noise_refiner.",),
        absent=("ref_image_patch_embedder.",),
        blocks=joined(
            {"IN": ("x_embedder.*", "t_embedder.*", "cap_embedder.*", "time_caption_embed.*")},
            {"CONT": ("context_refiner.*",), "NOISE": ("noise_refiner.*",)},
            numbered("L", "layers.{}.*"),
            {"OUT": ("norm_final.*", "final_layer.*", "norm_out.*")},
        ),
    ),
    # facebookresearch/DiT, models.py, and DiTTransformer2DModel
    block_family(
        "DiT",
        ("blocks.",),
        ("y_embedder.",),
        # PixArt and Sana
        absent=("t_block.",),
        blocks=joined(
            {"IN": ("x_embedder.*", "t_embedder.*", "y_embedder.*", "pos_embed")},
            numbered("T", "blocks.{}.*"),
            {"OUT": ("final_layer.*",)},
        ),
    ),
    block_family(
        "DiT",
        ("transformer_blocks.",),
        ("proj_out_1.",),
        blocks=joined(
            {"IN": ("pos_embed.*",)},
            numbered("T", "transformer_blocks.{}.*"),
            {"OUT": ("proj_out_1.*", "proj_out_2.*")},
        ),
    ),
)
"""All families of transformers; the first that fits a model is used."""
