"""Bases load as they were published: by any version of diffusers, or written by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from edited_bases import edit, edited, laid_out_at_the_root, loaded
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPVisionConfig

from soupctl import verbs
from soupctl.diffusion.loading import load_scheduler
from soupctl.errors import InputError, MismatchError


def test_a_dit_under_its_first_class_name_trains_and_loads_in_diffusers(
    bases, running, shards, tmp_path
):
    base = edited(
        *(bases["dit"], tmp_path / "base", "transformer/config.json"),
        _class_name="Transformer2DModel",
        cross_attention_dim=None,
        num_vector_embeds=None,
        only_cross_attention=False,
        use_linear_projection=False,
    )
    edit(base / "model_index.json", transformer=["diffusers", "Transformer2DModel"])

    running.run(base, shards["dit"], tmp_path / "run", running.ReporterSpy(), steps=1)

    plain = running.run(
        bases["dit"], shards["dit"], tmp_path / "plain", running.ReporterSpy(), steps=1
    )
    name = "transformer/diffusion_pytorch_model.safetensors"
    ours, theirs = (running.load_file(tmp_path / run / "model" / name) for run in ("run", "plain"))
    assert plain.steps == 1
    assert all(torch.equal(ours[each], theirs[each]) for each in theirs)
    assert type(loaded(tmp_path / "run/model").transformer).__name__ == "DiTTransformer2DModel"


def test_a_transformer_of_that_name_that_is_no_dit_is_refused(bases, running, tmp_path):
    base = edited(
        *(bases["dit"], tmp_path / "base", "transformer/config.json"),
        _class_name="Transformer2DModel",
        norm_type="ada_norm_single",
    )

    with pytest.raises(MismatchError, match="has class Transformer2DModel; supported are"):
        running.read_base(base)


def test_a_pipeline_in_one_folder_trains_averages_and_loads_in_diffusers(
    bases, running, shards, tmp_path
):
    base = laid_out_at_the_root(bases["plain"], tmp_path / "base")
    for name in ("plain", "class"):
        running.run(base, shards[name], tmp_path / name, running.ReporterSpy(), steps=1)
    models = [tmp_path / name / "model" for name in ("plain", "class")]

    verbs.average(verbs.Request(models, tmp_path / "soup"))

    weights = "diffusion_pytorch_model.safetensors"
    first, second, soup = (
        running.load_file(each / weights) for each in (*models, tmp_path / "soup")
    )
    name = "conv_in.weight"
    mean = ((first[name].double() + second[name].double()) / 2).float()
    assert torch.equal(mean, soup[name])
    assert torch.equal(loaded(tmp_path / "soup").unet.state_dict()[name], soup[name])


def test_the_noise_schedule_of_a_pipeline_in_one_folder_is_its_own(running, tiny, tmp_path):
    spread = tiny.plain_base(tmp_path / "spread", beta_end=0.5)

    base = running.read_base(laid_out_at_the_root(spread, tmp_path / "base"))

    assert load_scheduler(base).config.beta_end == 0.5


@pytest.mark.parametrize("component", ["unet", "vae"])
def test_a_config_that_names_no_class_is_of_the_class_in_the_list_of_the_pipeline(
    bases, running, tmp_path, component
):
    base = edited(bases["text"], tmp_path / "base", f"{component}/config.json", ("_class_name",))

    found, expected = running.read_base(base), running.read_base(bases["text"])

    assert found.configs[component] == expected.configs[component]


@pytest.mark.parametrize("listed", ["VQModel", "AutoencoderKL"])
def test_a_denoiser_of_latents_is_never_trained_on_pixels(bases, running, tmp_path, listed):
    shutil.copytree(bases["plain"], tmp_path / "base")
    edit(tmp_path / "base/model_index.json", vqvae=["diffusers", listed])

    with pytest.raises(InputError, match="base/vqvae: is missing, though model_index"):
        running.read_base(tmp_path / "base")


def test_an_autoencoder_that_is_called_vqvae_has_to_fit(tiny, bases, running, tmp_path):
    shutil.copytree(bases["plain"], tmp_path / "base")
    edit(tmp_path / "base/model_index.json", vqvae=["diffusers", "AutoencoderKL"])
    tiny.autoencoder().save_pretrained(tmp_path / "base/vqvae")

    with pytest.raises(MismatchError, match="takes 3 channels, but the vqvae has 4"):
        running.read_base(tmp_path / "base")


@pytest.mark.parametrize("is_listed", [True, False])
def test_of_a_unet_and_its_ema_the_unet_is_trained_and_published_alone(
    bases, running, shards, tmp_path, is_listed
):
    base = shutil.copytree(bases["plain"], tmp_path / "base")
    shutil.copytree(base / "unet", base / "unet_ema")
    (base / "unet_ema/diffusion_pytorch_model.safetensors").write_bytes(b"never opened")
    if is_listed:
        edit(base / "model_index.json", unet_ema=["diffusers", "UNet2DModel"])
    spy = running.ReporterSpy()

    setup = running.read_base_setup(base, running.Options(steps=1), None)
    running.run(base, shards["plain"], tmp_path / "run", spy, steps=1)

    assert "unet_ema is left out: training starts from unet" in setup.notices
    loaded(tmp_path / "run/model")
    listing = json.loads((tmp_path / "run/model/model_index.json").read_text())
    assert listing == json.loads((bases["plain"] / "model_index.json").read_text())
    assert not (tmp_path / "run/model/unet_ema").exists()


@pytest.mark.parametrize("part", ["vae", "scheduler"])
def test_a_part_that_a_pipeline_lists_has_to_be_there(bases, running, tmp_path, part):
    shutil.copytree(bases["text"], tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / part)

    with pytest.raises(InputError, match=f"base/{part}: is missing, though model_index.json"):
        running.read_base(tmp_path / "base")


def test_a_text_encoder_within_a_whole_clip_is_the_encoder_alone(running, bases, tmp_path):
    base = Path(shutil.copytree(bases["text"], tmp_path / "base"))
    alone = CLIPTextModel.from_pretrained(base / "text_encoder")
    seeing = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=8,
        patch_size=4,
    )
    parts = {"text_config": alone.config.to_dict(), "vision_config": seeing.to_dict()}
    whole = CLIPModel(CLIPConfig(**parts, projection_dim=8))
    whole.text_model.load_state_dict(alone.state_dict())
    shutil.rmtree(base / "text_encoder")
    whole.save_pretrained(base / "text_encoder")

    found = running.load_models(running.read_base(base)).text_encoders["text_encoder"]

    expected = alone.state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(each, expected[key]) for key, each in found.state_dict().items())
