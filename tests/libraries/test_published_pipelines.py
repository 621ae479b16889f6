"""A pipeline as it was published years ago averages with one that today's libraries saved."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline

OLD_UNET = (
    *("_class_name", "_diffusers_version", "act_fn", "attention_head_dim", "block_out_channels"),
    *("center_input_sample", "cross_attention_dim", "down_block_types", "downsample_padding"),
    *("flip_sin_to_cos", "freq_shift", "in_channels", "layers_per_block", "mid_block_scale_factor"),
    *("norm_eps", "norm_num_groups", "out_channels", "sample_size", "up_block_types"),
)
OLD_VAE = (
    *("_class_name", "_diffusers_version", "act_fn", "block_out_channels", "down_block_types"),
    *("in_channels", "latent_channels", "layers_per_block", "norm_num_groups", "out_channels"),
    *("sample_size", "up_block_types"),
)


@pytest.fixture
def published(stable_diffusion, tmp_path):
    """One of two pipelines with the fields that configs had in 2022, and a safety checker."""
    shutil.copytree(stable_diffusion, tmp_path / "in")
    folder = tmp_path / "in" / "a"
    for name, kept in (("unet", OLD_UNET), ("vae", OLD_VAE)):
        file = folder / name / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({key: config[key] for key in kept if key in config}))
    listing = json.loads((folder / "model_index.json").read_text())
    listing = {key: value for key, value in listing.items() if value != [None, None]}
    listing["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    listing.pop("requires_safety_checker", None)
    (folder / "model_index.json").write_text(json.dumps(listing))
    shutil.copytree(folder / "vae", folder / "safety_checker")
    return folder


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_published_pipeline_averages_with_one_saved_today(average, published, tmp_path, order):
    inputs = [published.parent / name for name in order]
    average(*inputs, "-o", tmp_path / "soup")

    found = StableDiffusionPipeline.from_pretrained(tmp_path / "soup", local_files_only=True)
    one, two = (
        StableDiffusionPipeline.from_pretrained(published.parent / "b", local_files_only=True),
        found,
    )
    assert one.unet.config["act_fn"] == two.unet.config["act_fn"]
    assert found.safety_checker is None
    assert all(torch.isfinite(each).all() for each in found.unet.state_dict().values())
    assert not list((tmp_path / "soup" / "safety_checker").glob("*.safetensors"))
