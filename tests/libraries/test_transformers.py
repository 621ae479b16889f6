"""transformers loads what soupctl makes of its models, in every dtype and layout it saves them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")

import torch
from diffusers import StableDiffusionPipeline
from exact_mean import mean, require_mean
from safetensors import safe_open
from tiny_pipelines import bert, llama, text_encoder, tied_gpt2

BUILDERS = {"llama": llama, "tied GPT-2": tied_gpt2, "BERT": bert, "CLIP": text_encoder}


def loaded(kind: type, folder: Path | str, **options: object) -> torch.nn.Module:
    return kind.from_pretrained(folder, local_files_only=True, dtype="auto", **options)


@pytest.mark.parametrize("size", ["5GB", "4KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_a_soup_of_models_is_one(tiny, average, tmp_path, build, dtype, size):
    states = []
    for seed, name in enumerate(("a", "b", "c"), 1):
        model = build(seed).to(dtype)
        states.append(model.state_dict())
        model.save_pretrained(tmp_path / name, max_shard_size=size)
    average(*(tmp_path / name for name in "abc"), "-o", tmp_path / "soup")

    soup = loaded(type(model), tmp_path / "soup")
    assert dtype == soup.dtype
    require_mean(soup.state_dict(), states)
    assert soup(torch.tensor([[1, 2, 17]])) is not None


def test_tied_weights_are_saved_once_and_tied_again(tiny, average, tmp_path):
    for seed, name in enumerate(("a", "b"), 1):
        tied_gpt2(seed).save_pretrained(tmp_path / name)
    average(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "soup")

    with safe_open(tmp_path / "soup" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    soup = loaded(type(tied_gpt2(1)), tmp_path / "soup")
    assert soup.lm_head.weight is soup.transformer.wte.weight


def test_dtypes_may_be_mixed_and_asked_for(tiny, average, tmp_path):
    states = []
    for seed, dtype in enumerate((torch.float16, torch.bfloat16), 1):
        model = bert(seed).to(dtype)
        states.append(model.state_dict())
        model.save_pretrained(tmp_path / str(seed))
    wider = ["F16 with BF16 becomes F32, which takes more room"]
    average(tmp_path / "1", tmp_path / "2", "-o", tmp_path / "wide", notes=wider)
    average(tmp_path / "1", tmp_path / "2", "--dtype", "bf16", "-o", tmp_path / "narrow")

    for folder, dtype in (("wide", torch.float32), ("narrow", torch.bfloat16)):
        with safe_open(tmp_path / folder / "model.safetensors", "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, tensor in found.items():
            expected = mean([state[name] for state in states], dtype)
            assert expected.dtype == tensor.dtype
            assert torch.equal(expected, tensor)
        type(model).from_pretrained(tmp_path / folder)


def in_hub_cache(source: Path, cache: Path, name: str, revision: str) -> Path:
    """The snapshot of a repository `tiny/name`, its files links to blobs as the hub lays them."""
    repository = cache / f"models--tiny--{name}"
    snapshot = repository / "snapshots" / revision
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    for number, file in enumerate(sorted(each for each in source.rglob("*") if each.is_file())):
        blob = repository / "blobs" / f"{number:040x}"
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(link.relative_to(repository).parent.parts)
        link.symlink_to(f"{up}blobs/{blob.name}")
    return snapshot


@pytest.mark.parametrize("size", ["5GB", "4KB"])
def test_a_snapshot_in_the_hub_cache_is_read_through_its_links(tiny, average, tmp_path, size):
    snapshots = []
    for seed, name in enumerate(("a", "b"), 1):
        model = llama(seed)
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        snapshots.append(in_hub_cache(tmp_path / name, tmp_path / "hub", name, str(seed) * 40))
    average(*snapshots, "-o", tmp_path / "soup")

    ingredients = [
        loaded(type(model), f"tiny/{name}", cache_dir=tmp_path / "hub").state_dict()
        for name in ("a", "b")
    ]
    require_mean(loaded(type(model), tmp_path / "soup").state_dict(), ingredients)
    assert not [each for each in (tmp_path / "soup").rglob("*") if each.is_symlink()]


def test_a_pipeline_in_the_hub_cache_is_read_through_its_links(stable_diffusion, average, tmp_path):
    snapshots = [
        in_hub_cache(stable_diffusion / name, tmp_path / "hub", name, name * 40) for name in "ab"
    ]
    average(*snapshots, "-o", tmp_path / "soup")

    soup = StableDiffusionPipeline.from_pretrained(tmp_path / "soup", local_files_only=True)
    ingredients = [
        StableDiffusionPipeline.from_pretrained(
            f"tiny/{name}", cache_dir=tmp_path / "hub", local_files_only=True
        )
        for name in "ab"
    ]
    require_mean(soup.unet.state_dict(), [each.unet.state_dict() for each in ingredients])
