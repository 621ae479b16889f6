"""A soup of pipelines is a pipeline: the library loads it, runs it, and finds the exact means."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
from diffusers import (
    AutoencoderKL,
    DDPMPipeline,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from exact_mean import require_mean
from transformers import CLIPTextModel


def loaded(kind: type, folder: Path, **options: object) -> DiffusionPipeline:
    pipeline = kind.from_pretrained(folder, local_files_only=True, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def require_mean_pipeline(
    found: DiffusionPipeline, ingredients: list[DiffusionPipeline], names: tuple[str, ...]
) -> None:
    for name in names:
        states = [getattr(pipeline, name).state_dict() for pipeline in [found, *ingredients]]
        require_mean(states[0], states[1:])


def test_a_soup_of_stable_diffusion_pipelines_is_one_and_runs(stable_diffusion, average, tmp_path):
    inputs = [stable_diffusion / "a", stable_diffusion / "b"]
    average(*inputs, "-o", tmp_path / "soup")

    soup = loaded(StableDiffusionPipeline, tmp_path / "soup")
    require_mean_pipeline(
        soup,
        [loaded(StableDiffusionPipeline, path) for path in inputs],
        ("unet", "vae", "text_encoder"),
    )
    image = soup(
        "a b",
        num_inference_steps=2,
        output_type="pt",
        generator=torch.Generator().manual_seed(0),
    ).images
    assert (1, 3, 8, 8) == image.shape
    assert image.isfinite().all()


def test_a_pipeline_is_found_by_the_library_without_its_class(stable_diffusion, average, tmp_path):
    average(stable_diffusion / "a", stable_diffusion / "b", "-o", tmp_path / "soup")

    assert StableDiffusionPipeline is type(loaded(DiffusionPipeline, tmp_path / "soup"))


@pytest.mark.parametrize(
    ("component", "kind"),
    [("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)],
)
def test_one_component_of_a_pipeline_loads_by_itself(
    stable_diffusion, average, tmp_path, component, kind
):
    inputs = [stable_diffusion / "a", stable_diffusion / "b"]
    average(*inputs, "--component", component, "-o", tmp_path / "soup")

    states = [
        kind.from_pretrained(folder, local_files_only=True).state_dict()
        for folder in (tmp_path / "soup", *(path / component for path in inputs))
    ]
    require_mean(states[0], states[1:])


def test_a_component_averages_with_the_folder_of_a_component(stable_diffusion, average, tmp_path):
    inputs = [stable_diffusion / "a" / "unet", stable_diffusion / "b" / "unet"]
    average(*inputs, "-o", tmp_path / "soup")
    pipelines = [stable_diffusion / "a", stable_diffusion / "b"]
    average(*pipelines, "--component", "unet", "-o", tmp_path / "same")

    name = "diffusion_pytorch_model.safetensors"
    soups = [UNet2DConditionModel.from_pretrained(tmp_path / each) for each in ("soup", "same")]
    assert {"config.json", name} == {each.name for each in (tmp_path / "soup").iterdir()}
    assert str(soups[0].state_dict()) == str(soups[1].state_dict())


def test_a_soup_of_dit_pipelines_is_one_and_runs(dit, average, tmp_path):
    inputs = [dit / "a", dit / "b"]
    average(*inputs, "-o", tmp_path / "soup")

    soup = loaded(DiTPipeline, tmp_path / "soup")
    ingredients = [loaded(DiTPipeline, path) for path in inputs]
    require_mean_pipeline(soup, ingredients, ("transformer", "vae"))
    assert isinstance(soup.transformer, DiTTransformer2DModel)
    image = soup([0], num_inference_steps=2, output_type="np").images
    assert (1, 8, 8, 3) == image.shape


def test_a_soup_of_unconditional_pipelines_is_one_and_runs(ddpm, average, tmp_path):
    inputs = [ddpm / "a", ddpm / "b"]
    average(*inputs, "-o", tmp_path / "soup")

    soup = loaded(DDPMPipeline, tmp_path / "soup")
    require_mean_pipeline(soup, [loaded(DDPMPipeline, path) for path in inputs], ("unet",))
    image = soup(num_inference_steps=2, output_type="np").images
    assert (1, 4, 4, 3) == image.shape


def test_a_pipeline_that_was_loaded_and_saved_again_averages_with_its_origin(
    stable_diffusion, average, tmp_path
):
    again = loaded(StableDiffusionPipeline, stable_diffusion / "a")
    again.save_pretrained(tmp_path / "again")
    average(tmp_path / "again", stable_diffusion / "a", "-o", tmp_path / "soup")

    soup = loaded(StableDiffusionPipeline, tmp_path / "soup")
    require_mean_pipeline(soup, [again], ("unet", "vae", "text_encoder"))


def test_a_soup_saved_again_by_the_library_averages_with_the_soup(
    stable_diffusion, average, tmp_path
):
    average(stable_diffusion / "a", stable_diffusion / "b", "-o", tmp_path / "soup")
    soup = loaded(StableDiffusionPipeline, tmp_path / "soup")
    soup.save_pretrained(tmp_path / "again")
    average(tmp_path / "soup", tmp_path / "again", "-o", tmp_path / "twice")

    twice = loaded(StableDiffusionPipeline, tmp_path / "twice")
    require_mean_pipeline(twice, [soup], ("unet", "vae", "text_encoder"))
