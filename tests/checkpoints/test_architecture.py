"""Kinds of models are told by the names and shapes of their tensors."""

from __future__ import annotations

import tracemalloc

import pytest
from model_shapes import CROSS, EARLY, LATE, LDM, tensors
from work import calls_in

from soupctl.checkpoints.architecture import guess_architecture, shape_hint


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


@pytest.mark.parametrize("letter", [".", "_", "1.", "lora_"])
def test_a_name_of_any_length_takes_memory_that_grows_as_it_does(letter):
    found = tensors({letter * 200_000: (1,), "w": (1,)})
    tracemalloc.start()
    guess_architecture(found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # a list of its parts at the most
    assert peak < 32 * 200_000
