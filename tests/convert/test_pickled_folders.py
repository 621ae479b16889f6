"""Folders of pickles are converted as their libraries would read them, and as nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from making import contents

pytest.importorskip("torch")

import torch
from harmful_pickle import HarmfulPickle
from safetensors.torch import save_file

from soupctl import verbs
from soupctl.errors import InputError, MismatchError
from soupctl.verbs import ConvertRequest

STATE = {"b": torch.arange(6, dtype=torch.float16).reshape(2, 3), "a": torch.ones(2)}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(STATE, "same.st")


def convert(source, output, **options):
    return verbs.convert(ConvertRequest(source, output, **options), force=True)


def pickle(path, state=STATE):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def pickle_shards(folder, stem, state=STATE):
    shards = {name: f"{stem}-{n:05}-of-00002.bin" for n, name in enumerate(state, 1)}
    for name, file in shards.items():
        pickle(f"{folder}/{file}", {name: state[name]})
    index = {"metadata": {"total_size": 20}, "weight_map": shards}
    Path(folder, f"{stem}.bin.index.json").write_text(json.dumps(index))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))


@pytest.mark.parametrize(
    ("stem", "made"), [("pytorch_model", "model"), ("diffusion_pytorch_model",) * 2]
)
def test_a_folder_becomes_one_with_the_names_that_its_library_looks_for(stem, made):
    pickle(f"one/{stem}.bin")
    Path("one/config.json").write_text("{}")
    pickle_shards("several", stem)

    convert("one", "out")
    convert("several", "shards")
    convert("several", "whole.st")

    assert ["config.json", f"{made}.safetensors"] == files("out")
    assert contents(Path("same.st")) == contents(Path(f"out/{made}.safetensors"))
    numbers = [f"{made}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert sorted([*numbers, f"{made}.safetensors.index.json"]) == files("shards")
    assert contents(Path("same.st")) == contents(Path("whole.st"))
    convert("shards", "again.st")
    assert Path("whole.st").read_bytes() == Path("again.st").read_bytes()


def test_a_pipeline_may_have_pickles_in_some_components():
    pickle("pipe/unet/diffusion_pytorch_model.bin")
    pickle("pipe/text_encoder/pytorch_model.fp16.bin", {"a": torch.zeros(1)})
    Path("pipe/vae").mkdir()
    Path("pipe/vae/diffusion_pytorch_model.safetensors").write_bytes(Path("same.st").read_bytes())
    pickle("pipe/vae/diffusion_pytorch_model.bin", {"other": torch.zeros(1)})
    listed = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "X"}
    listing = json.dumps({name: ["diffusers", kind] for name, kind in listed.items()})
    Path("pipe/model_index.json").write_text(listing)

    convert("pipe", "out", variant="fp16")
    convert("pipe", "unet.st", component="unet")

    assert contents(Path("same.st")) == contents(Path("unet.st"))
    model = "diffusion_pytorch_model.safetensors"
    for name in ("unet", "vae"):
        assert contents(Path("same.st")) == contents(Path(f"out/{name}/{model}"))
    assert {"a"} == contents(Path("out/text_encoder/model.safetensors")).keys()
    assert not list(Path("out").rglob("*.bin"))
    with pytest.raises(MismatchError, match="has no component 'nix'"):
        convert("pipe", "x", component="nix")


def test_harmful_and_damaged_folders_are_refused_without_an_output():
    pickle("harmful/pytorch_model.bin", {"a": torch.ones(1), "b": HarmfulPickle("ran")})
    pickle_shards("lacking", "pytorch_model")
    Path("lacking/pytorch_model-00002-of-00002.bin").unlink()
    pickle_shards("damaged", "pytorch_model")
    Path("damaged/pytorch_model-00002-of-00002.bin").write_bytes(b"PK\3\4")
    said = {
        "harmful": r"harmful/pytorch_model\.bin: .*which no checkpoint needs; nothing was run",
        "lacking": "is a missing shard, listed in pytorch_model.bin.index.json",
        "damaged": "is not a whole zip archive",
    }

    for folder, what in said.items():
        with pytest.raises(InputError, match=what):
            convert(folder, "x")
    assert not Path("x").exists()
    assert not Path("ran").exists()
