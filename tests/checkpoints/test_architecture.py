"""Kinds of models are told by the names and shapes of their tensors."""

from __future__ import annotations

import inspect
import tracemalloc
import warnings

import pytest
from work import calls_in

from soupctl.checkpoints.architecture import guess_architecture, shape_hint
from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor

LDM = "model.diffusion_model."
CROSS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
EARLY = LDM + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
LATE = LDM + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: Tensor(name, DType.F16, shape, 0, 0) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("title", "shapes"),
    [
        ("SD 1.x UNet, diffusers naming", {CROSS: (640, 768)}),
        ("SD 2.x UNet, diffusers naming", {CROSS: (640, 1024)}),
        (
            "SDXL UNet, diffusers naming",
            {CROSS: (640, 2048), "add_embedding.linear_1.weight": (1280, 2816)},
        ),
        (
            "SD 1.x UNet, diffusers naming, inpainting",
            {CROSS: (640, 768), "conv_in.weight": (320, 9, 3, 3)},
        ),
        ("SD 1.x, LDM naming", {EARLY: (320, 768)}),
        ("SD 2.x, LDM naming", {EARLY: (320, 1024)}),
        ("SDXL, LDM naming", {LATE: (640, 2048), LDM + "label_emb.0.0.weight": (1280, 2816)}),
        (
            "SD 1.x, LDM naming, inpainting",
            {EARLY: (320, 768), LDM + "input_blocks.0.0.weight": (320, 9, 3, 3)},
        ),
        ("SD 3 transformer, LDM naming", {LDM + "joint_blocks.0.x_block.attn.qkv.weight": (2, 2)}),
        ("Flux.1 transformer, LDM naming", {"double_blocks.0.w": (2,), "single_blocks.0.w": (2,)}),
        (
            "Flux.1 transformer, diffusers naming",
            {"single_transformer_blocks.0.w": (2,), "x_embedder.weight": (2, 2)},
        ),
        (
            "SD 3.5 transformer, original naming",
            {"joint_blocks.0.context_block.attn.ln_q.weight": (64,)},
        ),
        (
            "Flux.2 transformer, original naming",
            {"double_blocks.0.w": (2,), "double_stream_modulation_img.lin.weight": (2, 2)},
        ),
        (
            "Chroma transformer, original naming",
            {LDM + "double_blocks.0.w": (2,), LDM + "distilled_guidance_layer.norms.0.scale": (2,)},
        ),
        (
            "HiDream transformer",
            {"caption_projection.0.linear.weight": (2,), "double_stream_blocks.0.w": (2,)},
        ),
        (
            "Wan 2.2 5B transformer, original naming",
            {"head.modulation": (1, 2, 8), "patch_embedding.weight": (8, 48, 1, 2, 2)},
        ),
        (
            "Wan 2.2 image-to-video transformer, original naming",
            {"head.modulation": (1, 2, 8), "patch_embedding.weight": (8, 36, 1, 2, 2)},
        ),
        (
            "Wan 2.1 image-to-video transformer, original naming",
            {
                "head.modulation": (1,),
                "patch_embedding.weight": (8, 36, 1, 2, 2),
                "img_emb.proj.0.bias": (8,),
            },
        ),
        (
            "Wan 2.1 or 2.2 transformer, original naming",
            {"head.modulation": (1, 2, 8), "patch_embedding.weight": (8, 16, 1, 2, 2)},
        ),
        (
            "LTX-Video transformer, original naming",
            {LDM + "patchify_proj.weight": (8, 128), LDM + "adaln_single.linear.weight": (8, 8)},
        ),
        ("PixArt transformer, original naming", {"t_block.1.weight": (8, 8), "blocks.0.w": (2,)}),
        (
            "Z-Image transformer, original naming",
            {"cap_pad_token": (1, 8), "noise_refiner.0.w": (2,), "x_embedder.weight": (2, 2)},
        ),
        (
            "HunyuanVideo transformer, original naming",
            {"txt_in.individual_token_refiner.blocks.0.norm1.weight": (8,), "vector_in.w": (2,)},
        ),
        (
            "SDXL, LDM naming, v-prediction, zero terminal SNR",
            {
                LATE: (640, 2048),
                LDM + "label_emb.0.0.weight": (8, 8),
                "v_pred": (0,),
                "ztsnr": (0,),
            },
        ),
        ("CLIP text encoder", {"text_model.embeddings.token_embedding.weight": (49408, 768)}),
        ("prompt bank", {"prompts.down_blocks.0": (8, 4, 4), "gate.16.weight": (16, 33)}),
        ("LoRA factors", {"unet.to_q.lora_A.weight": (4, 2), CROSS: (640, 768)}),
        (None, {"w": (2,), "down_blocks": (1,)}),
        (None, {CROSS: ()}),
        (None, {CROSS: (768,)}),
        (None, {}),
    ],
)
def test_a_model_is_known_by_its_tensors(title, shapes):
    assert title == guess_architecture(tensors(shapes))


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


@pytest.mark.parametrize(
    ("title", "shapes"),
    [
        (
            "SD 1.x ControlNet, diffusers naming",
            {CROSS: (640, 768), "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)},
        ),
        ("ControlNet", {"control_model.input_blocks.0.0.weight": (320, 4, 3, 3)}),
        (
            "SD 1.x, LDM naming, ControlNet",
            {EARLY: (320, 768), "control_model.time_embed.0.weight": (2, 2)},
        ),
        (
            "SD 1.x, LDM naming, InstructPix2Pix",
            {EARLY: (320, 768), LDM + "input_blocks.0.0.weight": (320, 8, 3, 3)},
        ),
        (
            "SD 2.x, LDM naming, depth",
            {EARLY: (320, 1024), LDM + "input_blocks.0.0.weight": (320, 5, 3, 3)},
        ),
        (
            "Stable Video Diffusion, LDM naming",
            {
                EARLY: (320, 1024),
                LDM + "input_blocks.1.1.time_stack.0.attn1.to_q.weight": (320, 320),
                LDM + "input_blocks.0.0.weight": (320, 8, 3, 3),
            },
        ),
        (
            "Kolors UNet, diffusers naming",
            {
                CROSS: (640, 2048),
                "add_embedding.linear_1.weight": (1280, 5632),
                "encoder_hid_proj.weight": (2048, 4096),
            },
        ),
        (
            "SDXL, LDM naming, EDM",
            {LATE: (640, 2048), LDM + "label_emb.0.0.weight": (2, 2), "edm_mean": (4,)},
        ),
        (
            "SDXL, LDM naming, v-prediction, EDM v-prediction",
            {
                LATE: (640, 2048),
                LDM + "label_emb.0.0.weight": (2, 2),
                "v_pred": (0,),
                "edm_vpred.sigma_max": (),
            },
        ),
    ],
)
def test_relatives_of_stable_diffusion_are_told_apart(title, shapes):
    assert title == guess_architecture(tensors(shapes))


def test_the_work_grows_with_the_tensors_and_no_faster():
    few, many = (
        tensors({f"blocks.{number}.attn.to_q.weight": (2, 2) for number in range(size)})
        for size in (1_000, 100_000)
    )

    assert guess_architecture(many) is None
    assert calls_in(lambda: guess_architecture(many)) < 200 * calls_in(
        lambda: guess_architecture(few)
    )


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((320, 4, 3, 3), (320, 8, 3, 3)), ((), (4, 9))])
def test_other_shapes_are_not_explained(shapes):
    assert shape_hint(*shapes) is None


CLASSES = {
    "AllegroTransformer3DModel": "Allegro transformer",
    "AnyFlowTransformer3DModel": "AnyFlow transformer",
    "AuraFlowTransformer2DModel": "AuraFlow transformer",
    "BriaFiboTransformer2DModel": "Bria FIBO transformer",
    "BriaTransformer2DModel": "Bria transformer",
    "ChromaTransformer2DModel": "Chroma transformer",
    "CogVideoXTransformer3DModel": "CogVideoX transformer",
    "ControlNetModel": "ControlNet",
    "CosmosControlNetModel": "Cosmos ControlNet",
    "CosmosTransformer3DModel": "Cosmos transformer",
    "Flux2Transformer2DModel": "Flux.2 transformer",
    "Flux3Transformer2DModel": "Flux.3 transformer",
    "FluxControlNetModel": "Flux.1 ControlNet",
    "FluxTransformer2DModel": "Flux.1 transformer",
    "GlmImageTransformer2DModel": "GLM-Image transformer",
    "HeliosTransformer3DModel": "Helios transformer",
    "HunyuanImageTransformer2DModel": "HunyuanImage transformer",
    "HunyuanVideo15Transformer3DModel": "HunyuanVideo 1.5 transformer",
    "HunyuanVideoTransformer3DModel": "HunyuanVideo transformer",
    "Krea2Transformer2DModel": "Krea 2 transformer",
    "LTX2VideoTransformer3DModel": "LTX-2 transformer",
    "LTXVideoTransformer3DModel": "LTX-Video transformer",
    "LongCatImageTransformer2DModel": "LongCat-Image transformer",
    "Lumina2Transformer2DModel": "Lumina 2 transformer",
    "MochiTransformer3DModel": "Mochi transformer",
    "OvisImageTransformer2DModel": "Ovis-Image transformer",
    "PixArtTransformer2DModel": "PixArt-alpha transformer",
    "QwenImage21Transformer2DModel": "Qwen-Image 2.1 transformer",
    "QwenImageControlNetModel": "Qwen-Image ControlNet",
    "QwenImageTransformer2DModel": "Qwen-Image transformer",
    "SD3ControlNetModel": "SD 3 ControlNet",
    "SD3Transformer2DModel": "SD 3 transformer",
    "SanaControlNetModel": "Sana ControlNet",
    "SanaTransformer2DModel": "Sana transformer",
    "SanaVideoTransformer3DModel": "Sana-Video transformer",
    "UNet3DConditionModel": "text-to-video UNet",
    "UNetMotionModel": "AnimateDiff UNet",
    "UNetSpatioTemporalConditionModel": "Stable Video Diffusion UNet",
    "WanAnimateTransformer3DModel": "Wan Animate transformer",
    "WanTransformer3DModel": "Wan 2.1 or 2.2 transformer",
    "ZImageTransformer2DModel": "Z-Image transformer",
}
SHORT = ("num_layers", "num_single_layers", "num_refiner_layers", "n_layers", "n_refiner_layers")


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_of_diffusers_is_known_by_its_tensors(name):
    torch = pytest.importorskip("torch")
    kind = getattr(pytest.importorskip("diffusers"), name, None)
    if kind is None:
        pytest.skip(f"this diffusers has no {name}")
    options = {field: 1 for field in inspect.signature(kind.__init__).parameters if field in SHORT}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(**options)

    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert guess_architecture(tensors(shapes)) in (
        CLASSES[name],
        f"{CLASSES[name]}, diffusers naming",
    )


@pytest.mark.parametrize("letter", [".", "_", "1.", "lora_"])
def test_a_name_of_any_length_takes_memory_that_grows_as_it_does(letter):
    found = tensors({letter * 200_000: (1,), "w": (1,)})
    tracemalloc.start()
    guess_architecture(found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # a list of its parts at the most
    assert peak < 32 * 200_000
