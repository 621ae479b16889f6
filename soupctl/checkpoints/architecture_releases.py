"""Transformers by the tensors of their releases: data, in one place.

Rule 1: the first pattern that fits wins, so special cases stand before general ones.
Rule 2: the source of a pattern is the release of the model, as ComfyUI (model_detection.py)
recognises it too.
"""

from __future__ import annotations

from .architecture_pattern import Pattern, original_naming

RELEASES = (
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
    Pattern(
        "Flux.1 transformer, LDM naming",
        (("double_blocks.", {}), ("single_blocks.", {})),
        "flux, model.py",
        is_prefixed=True,
    ),
    original_naming("AuraFlow transformer", "AuraFlow", "double_layers.0.attn.w1q.weight"),
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
    original_naming("PixArt transformer", "PixArt-alpha, PixArt.py", "t_block.1.weight", "blocks."),
    original_naming("Mochi transformer", "mochi", "t5_yproj.weight"),
    Pattern(
        "Qwen-Image transformer",
        (("txt_norm.weight", {}), ("img_in.weight", {}), ("transformer_blocks.", {})),
        "QwenImageTransformer2DModel, which names tensors as the release",
        is_prefixed=True,
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
