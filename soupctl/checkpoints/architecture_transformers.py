"""Transformers with the names of a class of diffusers: data, in one place.

Rule 1: the first pattern that fits wins, so special cases stand before general ones.
Rule 2: the source of a pattern is the class that names the tensors.
"""

from __future__ import annotations

from .architecture_pattern import architecture, diffusers_naming

TRANSFORMERS = (
    diffusers_naming(
        "Flux.3 transformer",
        "Flux3Transformer2DModel",
        "early_stream_modulations.image.linear.weight",
    ),
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
        "HunyuanVideo FramePack transformer",
        "HunyuanVideoFramepackTransformer3DModel",
        "context_embedder.token_refiner.",
        "clean_x_embedder.",
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
        "LongCat-Image transformer",
        "LongCatImageTransformer2DModel",
        "single_transformer_blocks.",
        ("context_embedder.weight", {1: 3584}),
    ),
    diffusers_naming(
        "Bria FIBO transformer",
        "BriaFiboTransformer2DModel",
        "single_transformer_blocks.",
        "caption_projection.0.linear.weight",
    ),
    diffusers_naming(
        "Bria transformer",
        "BriaTransformer2DModel",
        "single_transformer_blocks.",
        "time_embed.timestep_embedder.linear_1.weight",
    ),
    diffusers_naming(
        "Ovis-Image transformer",
        "OvisImageTransformer2DModel",
        "single_transformer_blocks.",
        "context_embedder_norm.weight",
    ),
    diffusers_naming(
        "Flux.1 Fill transformer",
        "FluxTransformer2DModel with the latents of an image and its mask",
        "single_transformer_blocks.",
        ("x_embedder.weight", {1: 384}),
    ),
    diffusers_naming(
        "Flux.1 transformer",
        "FluxTransformer2DModel",
        "single_transformer_blocks.",
        "x_embedder.weight",
    ),
    diffusers_naming(
        "SD 3.5 Medium transformer",
        "SD3Transformer2DModel: some blocks attend twice",
        "pos_embed.proj.weight",
        "context_embedder.weight",
        "transformer_blocks.0.attn2.to_q.weight",
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
    *(
        diffusers_naming(title, source, "condition_embedder.text_embedder.", mark)
        for title, source, mark in (
            ("Wan VACE transformer", "WanVACETransformer3DModel", "vace_patch_embedding.weight"),
            ("Wan Animate transformer", "WanAnimateTransformer3DModel", "face_encoder."),
            ("Helios transformer", "HeliosTransformer3DModel", "patch_short.weight"),
            (
                "AnyFlow transformer",
                "AnyFlowTransformer3DModel",
                "condition_embedder.delta_embedder.",
            ),
        )
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
        "Sana-Video transformer",
        "SanaVideoTransformer3DModel",
        "caption_norm.weight",
        "time_embed.",
        "patch_embedding.weight",
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
    *(
        diffusers_naming(title, source, "time_condition_embed.", mark)
        for title, source, mark in (
            ("CogView4 transformer", "CogView4Transformer2DModel", "patch_embed.text_proj.weight"),
            ("GLM-Image transformer", "GlmImageTransformer2DModel", "prior_token_embedding.weight"),
        )
    ),
    diffusers_naming(
        "Mochi transformer", "MochiTransformer3DModel", "time_embed.caption_proj.weight"
    ),
    diffusers_naming(
        "Cosmos transformer",
        "CosmosTransformer3DModel",
        "time_embed.t_embedder.linear_1.weight",
        "patch_embed.proj.weight",
    ),
    diffusers_naming(
        "Kandinsky 5 transformer",
        "Kandinsky5Transformer3DModel",
        "visual_embeddings.in_layer.weight",
        "pooled_text_embeddings.in_layer.weight",
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
        "Allegro transformer",
        "AllegroTransformer3DModel",
        ("pos_embed.proj.weight", {0: 2304}),
        "adaln_single.linear.weight",
    ),
    diffusers_naming(
        "PixArt-alpha transformer",
        "PixArtTransformer2DModel: resolutions and aspect ratios are embedded",
        "pos_embed.proj.weight",
        "adaln_single.emb.resolution_embedder.",
    ),
    diffusers_naming(
        "PixArt transformer",
        "PixArtTransformer2DModel",
        "pos_embed.proj.weight",
        "adaln_single.linear.weight",
    ),
)
"""Transformers of diffusers, and their namesakes."""
