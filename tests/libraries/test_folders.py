"""What lies beside the weights: copied if it is theirs, compared, and never code or a pickle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer


@pytest.fixture
def pipelines(stable_diffusion, tmp_path) -> tuple[Path, Path]:
    """Two pipelines that a test may change."""
    for name in "ab":
        shutil.copytree(stable_diffusion / name, tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if not each.is_dir()}


def test_every_file_that_is_neither_weights_nor_code_is_copied(pipelines, average, tmp_path):
    for folder in pipelines:
        (folder / "README.md").write_text(f"# {folder.name}")
        (folder / "feature_extractor").mkdir()
        (folder / "feature_extractor" / "preprocessor_config.json").write_text("{}")
        (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    average(*pipelines, "-o", tmp_path / "soup")

    assert files(pipelines[0]) == files(tmp_path / "soup")
    for name in files(pipelines[0]):
        if not name.endswith(".safetensors"):
            assert (pipelines[0] / name).read_bytes() == (tmp_path / "soup" / name).read_bytes()
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "soup" / "tokenizer")
    first = CLIPTokenizer.from_pretrained(pipelines[0] / "tokenizer")
    assert first("a b")["input_ids"] == tokenizer("a b")["input_ids"]


def test_pickles_other_weights_and_code_stay_behind(pipelines, average, tmp_path):
    before = files(pipelines[0])
    for folder in pipelines:
        for name in (
            "pipeline.py",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.bin.index.json",
            "unet/diffusion_pytorch_model.bin.fp16.index.json",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/model.onnx",
            "vae/diffusion_pytorch_model.flashpack",
            "text_encoder/pytorch_model.bin",
            "text_encoder/flax_model.msgpack",
            "v1-5-pruned.ckpt",
            "v1-5-pruned.safetensors",
            ".gitattributes",
            ".cache/state.json",
        ):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(folder.name)
    said = average(*pipelines, "-o", tmp_path / "soup")

    assert said.startswith("soupctl: left behind 9 files: ")
    assert before == files(tmp_path / "soup")


def test_a_training_run_beside_a_pipeline_is_no_component(pipelines, average, tmp_path):
    for folder in pipelines:
        (folder / "checkpoint-500" / "unet").mkdir(parents=True)
        for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
            (folder / "checkpoint-500" / name).write_text(folder.name)
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        shutil.copy(weights, folder / "checkpoint-500" / "unet")
    average(*pipelines, "-o", tmp_path / "soup")

    assert not (tmp_path / "soup" / "checkpoint-500").exists()
    StableDiffusionPipeline.from_pretrained(tmp_path / "soup", local_files_only=True)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("unet/config.json", {"cross_attention_dim": 16}),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}),
        ("vae/config.json", {"scaling_factor": 0.13025}),
        ("text_encoder/config.json", {"hidden_act": "gelu"}),
        ("model_index.json", {"unet": ["diffusers", "UNet2DModel"]}),
    ],
)
def test_configs_that_differ_are_refused_by_name(pipelines, refused, tmp_path, name, fields):
    change(pipelines[1] / name, **fields)

    said = refused(4, *pipelines, "-o", tmp_path / "soup")
    (field,) = fields
    assert f"{pipelines[1] / name}: {field} is " in said
    assert f" in {pipelines[0] / name} (" in said
    assert not (tmp_path / "soup").exists()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tokenizer/tokenizer_config.json", {"model_max_length": 77}),
        ("model_index.json", {"requires_safety_checker": True}),
        ("unet/config.json", {"sample_size": 96}),
        ("scheduler/scheduler_config.json", {"steps_offset": 7}),
    ],
)
def test_configs_that_mean_the_same_are_those_of_the_first(
    average, pipelines, tmp_path, name, fields
):
    change(pipelines[1] / name, **fields)
    average(*pipelines, "-o", tmp_path / "soup")

    assert (pipelines[0] / name).read_bytes() == (tmp_path / "soup" / name).read_bytes()
    StableDiffusionPipeline.from_pretrained(tmp_path / "soup", local_files_only=True)


def test_files_of_the_tokenizer_that_differ_are_refused_by_name(pipelines, refused, tmp_path):
    for folder in pipelines:
        (folder / "tokenizer" / "merges.txt").write_text(folder.name)

    said = refused(4, *pipelines, "-o", tmp_path / "soup")
    assert str(pipelines[1] / "tokenizer" / "merges.txt") in said


def test_a_component_of_another_shape_is_refused_by_tensor(
    tiny, stable_diffusion, refused, tmp_path
):
    tiny.conditional_unet(1, cross_attention_dim=16).save_pretrained(tmp_path / "wide")
    narrow = stable_diffusion / "a" / "unet"

    said = refused(4, narrow, tmp_path / "wide", "-o", tmp_path / "soup")
    assert "attn2.to_k.weight: has shape [8, 16] where" in said


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("unet/config.json", {"_diffusers_version": "0.30.0", "_name_or_path": "../elsewhere"}),
        ("text_encoder/config.json", {"torch_dtype": "float16", "transformers_version": "4.48"}),
        ("text_encoder/config.json", {"dtype": "bfloat16", "_commit_hash": "0" * 40}),
        ("tokenizer/tokenizer_config.json", {"name_or_path": "x", "tokenizer_file": "y"}),
        ("tokenizer/tokenizer_config.json", {"is_local": True, "local_files_only": True}),
        ("model_index.json", {"_name_or_path": "x", "_diffusers_version": "0.6.0"}),
    ],
)
def test_versions_paths_and_dtypes_in_configs_may_differ(
    pipelines, average, tmp_path, name, fields
):
    change(pipelines[1] / name, **fields)
    average(*pipelines, "-o", tmp_path / "soup")

    assert (pipelines[0] / name).read_bytes() == (tmp_path / "soup" / name).read_bytes()


def test_a_folder_that_is_a_soup_is_replaced_on_request(pipelines, average, refused, tmp_path):
    average(*pipelines, "-o", tmp_path / "soup")
    before = (tmp_path / "soup").stat().st_ino

    assert "exists (-f replaces it)" in refused(6, *pipelines, "-o", tmp_path / "soup")
    assert before == (tmp_path / "soup").stat().st_ino
    average(*pipelines, "-f", "--dtype", "fp16", "-o", tmp_path / "soup")
    assert before != (tmp_path / "soup").stat().st_ino
    assert files(pipelines[0]) == files(tmp_path / "soup")


def test_a_component_does_not_replace_a_whole_pipeline(pipelines, average, refused, tmp_path):
    average(*pipelines, "-o", tmp_path / "soup")
    before = files(tmp_path / "soup")

    said = refused(6, *pipelines, "-f", "--component", "unet", "-o", tmp_path / "soup")
    assert "which the new output does not have" in said
    assert before == files(tmp_path / "soup")


@pytest.mark.parametrize("words", [["--shard-size", "10KB"], ["--dtype", "fp16"], []])
def test_every_layout_that_is_written_is_known_for_a_soup(pipelines, average, tmp_path, words):
    average(*pipelines, *words, "-o", tmp_path / "soup")
    average(*pipelines, "-f", "-o", tmp_path / "soup")

    StableDiffusionPipeline.from_pretrained(tmp_path / "soup", local_files_only=True)


def test_a_folder_that_is_no_soup_is_never_replaced(pipelines, refused, tmp_path):
    shutil.copytree(pipelines[0], tmp_path / "precious")
    before = files(tmp_path / "precious")

    said = refused(6, *pipelines, "-f", "-o", tmp_path / "precious")
    assert str(tmp_path / "precious") in said
    assert before == files(tmp_path / "precious")


def test_a_component_of_pickles_alone_is_refused_with_the_way_out(pipelines, refused, tmp_path):
    weights = pipelines[1] / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save({"weight": torch.ones(1)}, weights.with_suffix(".bin"))
    weights.unlink()

    said = refused(3, *pipelines, "-o", tmp_path / "soup")
    assert f"{pipelines[1] / 'vae'}: holds only pickled weights" in said
    assert "convert them to safetensors" in said


def test_a_pickle_under_the_name_of_safetensors_is_refused(pipelines, refused, tmp_path):
    weights = pipelines[1] / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save({"weight": torch.ones(1)}, weights)

    said = refused(3, *pipelines, "-o", tmp_path / "soup")
    assert f"{weights}: is a zip archive with a pickle, as PyTorch writes" in said


def test_a_model_index_that_is_none_is_refused(pipelines, refused, tmp_path):
    (pipelines[1] / "model_index.json").write_text("[]")

    said = refused(3, *pipelines, "-o", tmp_path / "soup")
    assert f"{pipelines[1] / 'model_index.json'}: is not a valid pipeline" in said
