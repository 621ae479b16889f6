"""Transformers by the tensors of their releases: data, in one place.

Rule 1: the first pattern that fits wins, so special cases stand before general ones.
Rule 2: the source of a pattern is the release of the model, as ComfyUI (model_detection.py) or
diffusers (single_file_utils.py) recognises it too.
"""

from __future__ import annotations

from .architecture_pattern import Pattern, original_naming

RELEASES = (
    original_naming(
        "SD 3.5 Medium transformer",
        "sd3.5, mmditx.py: some blocks attend twice",
        "joint_blocks.0.x_block.attn2.qkv.weight",
    ),
    original_naming(
        "SD 3.5 transformer",
        "sd3.5, mmditx.py: queries and keys are normalised",
        "joint_blocks.0.context_block.attn.ln_q.weight",
    ),
    Pattern(
        "SD 3 transformer, LDM naming",
        (("joint_blocks.", {}),),
        "sd3-ref, mmdit.py",
        is_prefixed=True,
    ),
    original_naming(
        "Flux.3 transformer",
        "diffusers, single_file_utils.py",
        "early_stream_modulations.image.lin.weight",
    ),
    original_naming(
        "Flux.2 transformer",
        "flux2, model.py",
        "double_blocks.",
        "double_stream_modulation_img.lin.weight",
    ),
    original_naming(
        "Chroma Radiance transformer",
        "Chroma1-Radiance",
        "distilled_guidance_layer.",
        "nerf_blocks.",
    ),
    original_naming("Chroma transformer", "Chroma1", "distilled_guidance_layer.", "double_blocks."),
    original_naming(
        "HunyuanVideo 1.5 transformer",
        "HunyuanVideo-1.5",
        "txt_in.individual_token_refiner.",
        "cond_type_embedding.weight",
    ),
    original_naming(
        "HunyuanVideo transformer",
        "HunyuanVideo: guided by a pooled text",
        "txt_in.individual_token_refiner.",
        "vector_in.",
    ),
    original_naming(
        "HunyuanImage transformer", "HunyuanImage-2.1", "txt_in.individual_token_refiner."
    ),
    original_naming("Hunyuan-DiT", "HunyuanDiT", "mlp_t5.0.weight"),
    original_naming(
        "Hunyuan3D 2 transformer",
        "Hunyuan3D-2, hunyuan3ddit.py",
        "latent_in.weight",
        "double_blocks.",
    ),
    original_naming(
        "LongCat-Image transformer",
        "LongCat-Image, in ComfyUI",
        "double_blocks.",
        ("txt_in.weight", {1: 3584}),
    ),
    original_naming(
        "Ovis-Image transformer",
        "Ovis-Image, in ComfyUI",
        "double_blocks.0.img_mlp.gate_proj.weight",
    ),
    Pattern(
        "Flux.1 Fill transformer, LDM naming",
        (("double_blocks.", {}), ("single_blocks.", {}), ("img_in.weight", {1: 384})),
        "flux, util.py: flux-dev-fill",
        is_prefixed=True,
    ),
    Pattern(
        "Flux.1 transformer, LDM naming",
        (("double_blocks.", {}), ("single_blocks.", {})),
        "flux, model.py",
        is_prefixed=True,
    ),
    original_naming("AuraFlow transformer", "AuraFlow", "double_layers.0.attn.w1q.weight"),
    *(
        original_naming(title, source, "head.modulation", mark)
        for title, source, mark in (
            ("Wan VACE transformer", "Wan2.1, vace_model.py", "vace_patch_embedding.weight"),
            ("Wan Animate transformer", "Wan2.2, model_animate.py", "face_adapter."),
            ("Wan speech-to-video transformer", "Wan2.2, model_s2v.py", "casual_audio_encoder."),
            ("Wan camera control transformer", "VideoX-Fun", "control_adapter.conv.weight"),
            ("HuMo transformer", "HuMo, in ComfyUI", "audio_proj."),
            ("Wan 2.1 first-and-last-frame transformer", "Wan2.1, model.py", "img_emb.emb_pos"),
        )
    ),
    original_naming(
        "Wan 2.1 image-to-video transformer", "Wan2.1, model.py", "head.modulation", "img_emb."
    ),
    original_naming(
        "Wan 2.2 5B transformer",
        "Wan2.2, TI2V-5B",
        "head.modulation",
        ("patch_embedding.weight", {1: 48}),
    ),
    original_naming(
        "Wan 2.2 image-to-video transformer",
        "Wan2.2, I2V-A14B",
        "head.modulation",
        ("patch_embedding.weight", {1: 36}),
    ),
    original_naming(
        "Wan 2.1 or 2.2 transformer",
        "Wan2.1, model.py",
        "head.modulation",
        "patch_embedding.weight",
    ),
    original_naming(
        "Z-Image transformer", "Z-Image", "cap_pad_token", "noise_refiner.", "x_embedder.weight"
    ),
    original_naming(
        "OmniGen2 transformer",
        "OmniGen2, transformer_omnigen2.py",
        "ref_image_patch_embedder.weight",
        "noise_refiner.",
    ),
    original_naming(
        "Lumina 2 transformer",
        "Lumina-Image-2.0",
        "cap_embedder.1.weight",
        "noise_refiner.",
        "x_embedder.weight",
    ),
    original_naming(
        "LTX-2 transformer", "LTX-2", "patchify_proj.weight", "audio_adaln_single.linear.weight"
    ),
    original_naming(
        "LTX-Video transformer", "LTX-Video", "patchify_proj.weight", "adaln_single.linear.weight"
    ),
    original_naming(
        "Sana transformer",
        "Sana, sana.py",
        "attention_y_norm.weight",
        "blocks.0.mlp.inverted_conv.conv.weight",
    ),
    original_naming(
        "PixArt-alpha transformer",
        "PixArt-alpha, PixArt.py: 120 tokens of text",
        "t_block.1.weight",
        ("y_embedder.y_embedding", {0: 120}),
    ),
    original_naming(
        "PixArt-Sigma transformer",
        "PixArt-sigma, PixArt.py: 300 tokens of text",
        "t_block.1.weight",
        ("y_embedder.y_embedding", {0: 300}),
    ),
    original_naming("PixArt transformer", "PixArt-alpha, PixArt.py", "t_block.1.weight", "blocks."),
    original_naming("Mochi transformer", "mochi", "t5_yproj.weight"),
    *(
        Pattern(
            title,
            (
                ("txt_norm.weight", {0: 3584}),
                ("img_in.weight", {}),
                ("transformer_blocks.0.attn.add_q_proj.weight", {}),
                *mark,
            ),
            source,
            is_prefixed=True,
        )
        for title, source, mark in (
            (
                "Qwen-Image-Layered transformer",
                "QwenImageTransformer2DModel, which names tensors as the release",
                (("time_text_embed.addition_t_embedding.weight", {}),),
            ),
            (
                "Qwen-Image-Edit 2511 transformer",
                "ComfyUI, model_detection.py: a marker",
                (("__index_timestep_zero__", {}),),
            ),
            (
                # Qwen-Image-Edit has the same tensors
                "Qwen-Image transformer",
                "QwenImageTransformer2DModel, which names tensors as the release",
                (),
            ),
        )
    ),
    Pattern(
        "Qwen-Image 2.1 transformer",
        (("txt_in.text_norm.weight", {}), ("img_in.weight", {}), ("modulation.1.weight", {})),
        "QwenImage21Transformer2DModel, which names tensors as the release",
        is_prefixed=True,
    ),
    original_naming(
        "Krea 2 transformer",
        "diffusers, single_file_utils.py",
        "txtfusion.projector.weight",
        "first.weight",
    ),
    original_naming(
        "Anima transformer",
        "ComfyUI, model_detection.py: a Cosmos-Predict2 with an adapter of texts",
        "blocks.0.mlp.layer1.weight",
        "llm_adapter.",
    ),
    original_naming(
        "Cosmos-Predict2 transformer",
        "cosmos-predict2",
        "blocks.0.mlp.layer1.weight",
        "x_embedder.proj.1.weight",
    ),
    original_naming(
        "HiDream-O1 transformer",
        "ComfyUI, model_detection.py",
        "t_embedder1.mlp.0.weight",
        "x_embedder.proj1.weight",
    ),
    Pattern(
        "HiDream transformer",
        (("caption_projection.0.linear.weight", {}), ("double_stream_blocks.", {})),
        "HiDreamImageTransformer2DModel, which names tensors as the release",
        is_prefixed=True,
    ),
    original_naming("Stable Cascade", "StableCascade", "clf.1.weight", "down_blocks."),
)
"""Transformers with the names of their releases, under any of the common prefixes."""
