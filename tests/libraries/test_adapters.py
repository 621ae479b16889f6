"""Low-rank adapters under every name that they are saved with are refused: factors do not average.

The names are those of PEFT, of diffusers before and since it uses PEFT, and of kohya's scripts.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
FLAT = BLOCK.replace(".", "_")
NAMES = {
    "PEFT": (
        f"base_model.model.{BLOCK}.to_q.lora_A.weight",
        f"base_model.model.{BLOCK}.to_q.lora_B.weight",
    ),
    "PEFT with a named adapter": (
        f"base_model.model.{BLOCK}.to_q.lora_A.default.weight",
        f"base_model.model.{BLOCK}.to_q.lora_B.default.weight",
    ),
    "diffusers": (f"unet.{BLOCK}.to_q.lora_A.weight", f"unet.{BLOCK}.to_q.lora_B.weight"),
    "diffusers before PEFT": (
        f"unet.{BLOCK}.processor.to_q_lora.down.weight",
        f"unet.{BLOCK}.processor.to_q_lora.up.weight",
    ),
    "diffusers, converted": (
        f"unet.{BLOCK}.to_q.lora.down.weight",
        f"unet.{BLOCK}.to_q.lora.up.weight",
    ),
    "diffusers before PEFT, text encoder": (
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_linear_layer.down.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_linear_layer.up.weight",
    ),
    "kohya": (f"lora_unet_{FLAT}_to_q.lora_down.weight", f"lora_unet_{FLAT}_to_q.lora_up.weight"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_low_rank_factors_are_refused_by_name(refused, tmp_path, names):
    down, up = names
    for number in (1, 2):
        tensors = {
            down: torch.full((4, 8), float(number)),
            up: torch.full((8, 4), float(number)),
            "alpha": torch.tensor(4.0),
        }
        save_file(tensors, tmp_path / f"{number}.safetensors", {"format": "pt"})

    paths = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    said = refused(4, *paths, "-o", tmp_path / "soup.safetensors")
    assert f"{paths[0]}: {min(names)}: is a LoRA factor" in said
    assert "soupctl apply BASE LORA adds each to a model" in said


def test_the_folder_of_an_adapter_is_refused(refused, tmp_path):
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
        tensors = dict.fromkeys(NAMES["PEFT"], torch.full((4, 4), float(number)))
        save_file({k: v.clone() for k, v in tensors.items()}, tmp_path / name / ADAPTER)

    said = refused(4, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "soup")
    assert "is a LoRA factor" in said


ADAPTER = "adapter_model.safetensors"


def test_a_fused_adapter_is_averaged_as_any_model(tiny, average, tmp_path):
    for seed in (1, 2):
        model = tiny.bert(seed)
        with torch.no_grad():
            weight = model.pooler.dense.weight
            weight += torch.ones(16, 4) @ torch.ones(4, 16) * seed
        model.save_pretrained(tmp_path / str(seed))
    average(tmp_path / "1", tmp_path / "2", "-o", tmp_path / "soup")

    type(model).from_pretrained(tmp_path / "soup", local_files_only=True)
