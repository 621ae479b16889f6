"""A baked LoRA is what diffusers' `fuse_lora` makes of it, but for the rounding of float32.

Rule 1: diffusers reads the very file that soupctl reads, by its own conversion of names.
"""

from __future__ import annotations

from fractions import Fraction

import pytest

pytest.importorskip("peft")

import torch
from deltas import apply
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.loaders import (
    FluxLoraLoaderMixin,
    SD3LoraLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
)
from safetensors.torch import load_file, save_file
from tiny_models import drawn, text_unet

RANK, ALPHA, SCALE = 2, 1.0, Fraction(3, 4)
# rounding of each product, of their sum, of its scale, and of the addition to the base
NEAR = (RANK + 3) * 2.0**-24


def flux() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
    )


def sd3() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        out_channels=4,
    )


def sdxl():
    return text_unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32,
        use_linear_projection=True,
    )


MODELS = {
    "SD 1.5": (text_unet, StableDiffusionLoraLoaderMixin, "unet"),
    "SDXL": (sdxl, StableDiffusionXLLoraLoaderMixin, "unet"),
    "Flux": (flux, FluxLoraLoaderMixin, "transformer"),
    "SD 3": (sd3, SD3LoraLoaderMixin, "transformer"),
}
NAMINGS = {
    "PEFT": (".lora_A.weight", ".lora_B.weight"),
    "diffusers before PEFT": (".lora.down.weight", ".lora.up.weight"),
    "kohya": (".lora_down.weight", ".lora_up.weight"),
}
UNETS = ("SD 1.5", "SDXL")


def layers(model):
    """The linear layers and convolutions of the attention blocks, which trainers adapt."""
    kinds = torch.nn.Linear | torch.nn.Conv2d
    found = {name: each for name, each in model.named_modules() if isinstance(each, kinds)}
    return {name: each for name, each in found.items() if "transformer_blocks" in name}


def adapter(model, folder, naming):
    """The tensors of a LoRA of all these layers."""
    down_end, up_end = NAMINGS[naming]
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, layer in layers(model).items():
        module = f"{folder}.{name}"
        if naming == "kohya":
            module = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{module}.alpha"] = torch.tensor(ALPHA)
        rows, columns = layer.weight.shape[:2]
        tensors[module + down_end] = torch.randn(RANK, columns, generator=generator) / 8
        tensors[module + up_end] = torch.randn(rows, RANK, generator=generator) / 8
    return tensors


def fused(model, mixin, folder, path):
    """The tensors of a model with the LoRA at `path` fused into it."""
    found = mixin.lora_state_dict(
        path, return_alphas=True, **({"unet_config": model.config} if folder == "unet" else {})
    )
    # for some models there are no alphas
    state, alphas, *_ = found if isinstance(found, tuple) else (found, None)
    model.load_lora_adapter(state, prefix=folder, network_alphas=alphas, adapter_name="a")
    model.fuse_lora(lora_scale=float(SCALE))
    model.unload_lora()
    return model.state_dict()


@pytest.mark.parametrize(
    ("kind", "naming"),
    [(kind, naming) for kind in MODELS for naming in NAMINGS if kind in UNETS or naming == "PEFT"],
)
def test_a_baked_lora_is_what_diffusers_fuses(kind, naming, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, mixin, folder = MODELS[kind]
    model = drawn(make(), 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(before, "base.safetensors")
    save_file(adapter(model, folder, naming), "lora.safetensors")

    apply("base.safetensors", ("lora.safetensors", SCALE), output="baked.safetensors")
    theirs = fused(model, mixin, folder, "lora.safetensors")

    ours = load_file("baked.safetensors")
    assert theirs.keys() == ours.keys()
    changed = {f"{name}.weight" for name in layers(model)}
    assert changed == {name for name in ours if not torch.equal(ours[name], before[name])}
    for name, tensor in theirs.items():
        largest = (tensor.abs() + (tensor - before[name]).abs()).max()
        assert (ours[name] - tensor).abs().max() <= NEAR * largest, name
