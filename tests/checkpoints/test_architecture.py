"""Kinds of models are told by the names and shapes of their tensors."""

from __future__ import annotations

import time

import pytest

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
        ("Flux transformer, LDM naming", {"double_blocks.0.w": (2,), "single_blocks.0.w": (2,)}),
        (
            "Flux transformer, diffusers naming",
            {"single_transformer_blocks.0.w": (2,), "x_embedder.weight": (2, 2)},
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


def test_a_hundred_thousand_tensors_take_a_moment():
    many = tensors({f"blocks.{number}.attn.to_q.weight": (2, 2) for number in range(100_000)})

    started = time.monotonic()
    assert guess_architecture(many) is None
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((320, 4, 3, 3), (320, 8, 3, 3)), ((), (4, 9))])
def test_other_shapes_are_not_explained(shapes):
    assert shape_hint(*shapes) is None
