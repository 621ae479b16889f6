"""Shards and variants under every name that the libraries use, read and written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from exact_mean import require_mean
from safetensors import safe_open
from tiny_pipelines import llama
from transformers import LlamaForCausalLM

WEIGHTS = "diffusion_pytorch_model"


def unet(folder: Path, variant: str | None = None) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder, local_files_only=True, variant=variant)


def unet_state(folder: Path) -> dict[str, torch.Tensor]:
    return unet(folder).state_dict()


def half_state(folder: Path, variant: str | None = None) -> dict[str, torch.Tensor]:
    # what is in fp16 is loaded as fp32 by default, and loses nothing on the way back
    return unet(folder, variant).half().state_dict()


def newer_states(sharded_variant: Path) -> list[dict[str, torch.Tensor]]:
    return [half_state(sharded_variant / name / "unet", "fp16") for name in ("a", "b")]


def require_index(path: Path, most: int | None = None) -> dict[str, str]:
    """The index at `path`, after comparing all it says with the files beside it."""
    index = json.loads(path.read_text())
    sizes: dict[str, int] = {}
    found: dict[str, str] = {}
    for file in path.parent.glob("*.safetensors"):
        with safe_open(file, "pt") as shard:
            tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        sizes[file.name] = sum(each.nbytes for each in tensors.values())
        found |= dict.fromkeys(tensors, file.name)
        assert most is None or sizes[file.name] <= most or len(tensors) == 1
    assert found == index["weight_map"]
    assert sum(sizes.values()) == index["metadata"]["total_size"]
    return index["weight_map"]


def test_the_soup_of_a_sharded_variant_loads_by_default(sharded_variant, average, tmp_path):
    inputs = [sharded_variant / "a", sharded_variant / "b"]
    average(*inputs, "--variant", "fp16", "-o", tmp_path / "soup")

    pipelines = [
        StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, variant=variant).to(
            torch.float16
        )
        for folder, variant in ((tmp_path / "soup", None), *((each, "fp16") for each in inputs))
    ]
    for name in ("unet", "vae", "text_encoder"):
        states = [getattr(pipeline, name).state_dict() for pipeline in pipelines]
        require_mean(states[0], states[1:])
    for name in ("unet", "vae"):
        index = require_index(tmp_path / "soup" / name / f"{WEIGHTS}.safetensors.index.json")
        assert len(set(index.values())) > 1
    assert not list((tmp_path / "soup").rglob("*fp16*"))


def test_a_folder_of_one_variant_alone_needs_no_option(sharded_variant, average, tmp_path):
    inputs = [sharded_variant / "a" / "unet", sharded_variant / "b" / "unet"]
    average(*inputs, "-o", tmp_path / "soup")

    require_mean(half_state(tmp_path / "soup"), newer_states(sharded_variant))


def legacy(source: Path, target: Path) -> Path:
    """The folder under the names that diffusers gave to a sharded variant until 2024."""
    target.mkdir()
    for file in source.iterdir():
        name = file.name
        if name.endswith(".index.fp16.json"):
            name = f"{WEIGHTS}.safetensors.fp16.index.json"
            text = file.read_text().replace(f"{WEIGHTS}.fp16-", f"{WEIGHTS}-")
            (target / name).write_text(text.replace(".safetensors", ".fp16.safetensors"))
        elif name.endswith(".safetensors"):
            name = name.replace(".fp16", "").replace(".safetensors", ".fp16.safetensors")
            shutil.copy(file, target / name)
        else:
            shutil.copy(file, target / name)
    return target


@pytest.mark.parametrize("variant", [["--variant", "fp16"], []])
def test_a_variant_in_its_older_spelling_is_read(sharded_variant, average, tmp_path, variant):
    inputs = [legacy(sharded_variant / name / "unet", tmp_path / name) for name in ("a", "b")]
    average(*inputs, *variant, "-o", tmp_path / "soup")

    require_index(tmp_path / "soup" / f"{WEIGHTS}.safetensors.index.json")
    # the library reads the older spelling only where no folder above has a dot in its name
    require_mean(half_state(tmp_path / "soup"), newer_states(sharded_variant))
    assert {"config.json", f"{WEIGHTS}.safetensors.index.json"} == {
        each.name for each in (tmp_path / "soup").iterdir() if each.suffix != ".safetensors"
    }


def test_an_index_can_be_named_itself_whatever_its_variant(sharded_variant, average, tmp_path):
    older = legacy(sharded_variant / "b" / "unet", tmp_path / "b")
    inputs = [
        sharded_variant / "a" / "unet" / f"{WEIGHTS}.safetensors.index.fp16.json",
        older / f"{WEIGHTS}.safetensors.fp16.index.json",
    ]
    average(*inputs, "-o", tmp_path / "soup.safetensors")

    with safe_open(tmp_path / "soup.safetensors", "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    require_mean(found, newer_states(sharded_variant))


@pytest.mark.parametrize("spell", [shutil.copytree, legacy])
def test_a_variant_is_preferred_to_the_plain_files_beside_it(
    sharded_variant, stable_diffusion, average, tmp_path, spell
):
    for name in ("a", "b"):
        spell(sharded_variant / name / "unet", tmp_path / name)
        plain = stable_diffusion / name / "unet" / f"{WEIGHTS}.safetensors"
        shutil.copy(plain, tmp_path / name)
    inputs = [tmp_path / "a", tmp_path / "b"]
    average(*inputs, "--variant", "fp16", "-o", tmp_path / "half")
    average(*inputs, "-o", tmp_path / "single")
    average(*inputs, "--variant", "ema", "-o", tmp_path / "fallen-back")

    singles = [unet_state(stable_diffusion / name / "unet") for name in ("a", "b")]
    require_mean(half_state(tmp_path / "half"), newer_states(sharded_variant))
    require_mean(unet_state(tmp_path / "single"), singles)
    require_mean(unet_state(tmp_path / "fallen-back"), singles)


def test_a_variant_averages_with_a_model_that_has_none(
    sharded_variant, stable_diffusion, average, tmp_path
):
    plain, half = stable_diffusion / "a" / "unet", sharded_variant / "b" / "unet"
    average(plain, half, "--variant", "fp16", "-o", tmp_path / "soup")
    average(half, plain, "--variant", "fp16", "-o", tmp_path / "turned")

    states = [unet_state(plain), unet(half, "fp16").state_dict()]
    require_mean(unet_state(tmp_path / "soup"), states)
    require_mean(unet_state(tmp_path / "turned"), states)


def test_shards_of_a_pipeline_load_with_the_right_index(stable_diffusion, average, tmp_path):
    inputs = [stable_diffusion / "a", stable_diffusion / "b"]
    average(*inputs, "--shard-size", "20KB", "-o", tmp_path / "soup")

    folders = [tmp_path / "soup", *inputs]
    pipelines = [StableDiffusionPipeline.from_pretrained(folder) for folder in folders]
    for name in ("unet", "vae", "text_encoder"):
        states = [getattr(pipeline, name).state_dict() for pipeline in pipelines]
        require_mean(states[0], states[1:])
    for name in ("unet", "vae"):
        path = tmp_path / "soup" / name / f"{WEIGHTS}.safetensors.index.json"
        assert len(set(require_index(path, 20_000).values())) > 1


def test_shards_of_a_lone_variant_get_the_names_that_load(sharded_variant, average, tmp_path):
    inputs = [sharded_variant / name / "text_encoder" for name in ("a", "b")]
    average(*inputs, "--shard-size", "1KB", "-o", tmp_path / "soup")

    require_index(tmp_path / "soup" / "model.safetensors.index.json", 1000)


def test_shards_become_one_file_that_loads(sharded_variant, average, tmp_path):
    inputs = [sharded_variant / name / "unet" for name in ("a", "b")]
    average(*inputs, "--shard-size", "1GB", "-o", tmp_path / "soup")

    assert {"config.json", f"{WEIGHTS}.safetensors"} == {
        each.name for each in (tmp_path / "soup").iterdir()
    }
    require_mean(half_state(tmp_path / "soup"), newer_states(sharded_variant))


def test_the_layout_of_shards_changes_no_number(tiny, average, tmp_path):
    states = []
    for seed, size in enumerate(("8KB", "3KB"), 1):
        model = llama(seed)
        states.append({name: each.clone() for name, each in model.state_dict().items()})
        model.save_pretrained(tmp_path / size, max_shard_size=size)
    average(tmp_path / "8KB", tmp_path / "3KB", "-o", tmp_path / "soup")
    average(tmp_path / "8KB", tmp_path / "3KB", "--shard-size", "5KB", "-o", tmp_path / "other")

    for folder in (tmp_path / "soup", tmp_path / "other"):
        require_index(folder / "model.safetensors.index.json")
        require_mean(LlamaForCausalLM.from_pretrained(folder).state_dict(), states)
    names = {
        folder: {each.name for each in (tmp_path / folder).glob("*.safetensors")}
        for folder in ("soup", "8KB")
    }
    assert names["8KB"] == names["soup"]


def test_a_sharded_variant_of_transformers_is_read(tiny, average, tmp_path):
    states = []
    for seed in (1, 2):
        model = llama(seed).to(torch.float16)
        states.append(model.state_dict())
        model.save_pretrained(tmp_path / str(seed), variant="fp16", max_shard_size="4KB")
        assert (tmp_path / str(seed) / "model.safetensors.index.fp16.json").is_file()
    average(tmp_path / "1", tmp_path / "2", "--variant", "fp16", "-o", tmp_path / "soup")

    require_index(tmp_path / "soup" / "model.safetensors.index.json")
    soup = LlamaForCausalLM.from_pretrained(tmp_path / "soup", dtype="auto")
    require_mean(soup.state_dict(), states)
