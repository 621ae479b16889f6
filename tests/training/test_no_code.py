"""No code that comes with a base or a bank is run, and nothing asks whether to run it."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harmful_pickle import HarmfulPickle

from soupctl.errors import InputError, MismatchError

RAN = "ran"
"""The file that the code of a base would write in the current folder."""
CODE = """
open({ran!r}, "w").write("x")
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
class Tokens(CLIPTokenizer): pass
class Config(CLIPTextConfig): model_type = "evil"
class Model(CLIPTextModel): pass
class Pipeline: pass
"""
UNET = "base/unet/config.json"
INDEX = "base/model_index.json"
TOKENS = "base/tokenizer/tokenizer_config.json"
ENCODER = "base/text_encoder/config.json"


def edit(path: str, **changes: object) -> None:
    content = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**content, **changes}))


def pickled(weights: str) -> None:
    """Put a pickle in the place of weights."""
    Path(weights).unlink()
    Path(weights).with_suffix(".bin").write_bytes(pickle.dumps(HarmfulPickle(RAN)))


REFUSED: dict[str, Callable[[], None]] = {
    "a tokenizer of its own": lambda: edit(TOKENS, auto_map={"AutoTokenizer": ["evil.Tokens"]}),
    "AutoTokenizer": lambda: edit(INDEX, tokenizer=["transformers", "AutoTokenizer"]),
    "a class of tokenizers": lambda: edit(TOKENS, tokenizer_class="evil.Tokens"),
    "a class of processors": lambda: edit(TOKENS, processor_class="evil.Tokens"),
    "an encoder of its own": lambda: edit(ENCODER, auto_map={"AutoModel": "evil.Model"}),
    "AutoModel": lambda: edit(INDEX, text_encoder=["transformers", "AutoModel"]),
    "another architecture": lambda: edit(ENCODER, architectures=["evil.Model"]),
    "another kind of model": lambda: edit(ENCODER, model_type="evil"),
    "attention of its own": lambda: edit(ENCODER, _attn_implementation="evil/attention"),
    "a pipeline of its own": lambda: edit(INDEX, _class_name=["evil", "Pipeline"]),
    "a custom pipeline": lambda: edit(INDEX, custom_pipeline="evil"),
    "a component of its own": lambda: edit(INDEX, vae=["evil", "Pipeline"]),
    "a component outside": lambda: edit(INDEX, **{"../evil": ["diffusers", "UNet2DModel"]}),
    "a function as denoiser": lambda: edit(UNET, _class_name="utils.logging"),
    "a function as encoder": lambda: edit(INDEX, text_encoder=["transformers", "pipeline"]),
    "a quantised denoiser": lambda: edit(UNET, quantization_config={"quant_method": "bnb"}),
    "a nested map": lambda: edit(UNET, more={"a": [{"auto_map": {"AutoModel": "evil.Model"}}]}),
    "a pickled denoiser": lambda: pickled("base/unet/diffusion_pytorch_model.safetensors"),
    "a pickled vae": lambda: pickled("base/vae/diffusion_pytorch_model.safetensors"),
    "a pickled encoder": lambda: pickled("base/text_encoder/model.safetensors"),
    "a pickled checker": lambda: (
        edit(INDEX, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]),
        Path("base/safety_checker").mkdir(),
        Path("base/safety_checker/pytorch_model.bin").write_bytes(pickle.dumps(HarmfulPickle(RAN))),
    ),
}

MAPPED = ("a tokenizer of its own", "an encoder of its own")


@pytest.fixture
def base(bases, tmp_path, monkeypatch):
    """A base with code beside everything, in the current folder; whoever reads stdin fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    return plant(bases["text"])


def plant(clean: Path) -> Path:
    shutil.copytree(clean, "base")
    code = CODE.format(ran=str(Path(RAN).absolute()))
    for folder in (Path(), Path("base"), *Path("base").iterdir()):
        if folder.is_dir():
            (folder / "evil.py").write_text(code)
    return Path("base")


@pytest.mark.parametrize("attack", REFUSED)
def test_a_base_that_names_code_is_refused(attack, base, shards, running):
    REFUSED[attack]()

    with pytest.raises((InputError, MismatchError)) as refusal:
        running.run(base, shards["text"], Path("run"), running.ReporterSpy(), steps=1)

    assert "\n" not in refusal.value.message()
    assert not Path("run").exists()
    assert not Path(RAN).exists()


def test_code_and_pickles_beside_a_base_are_neither_run_nor_copied(base, shards, running):
    for name in ("unet/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin"):
        (base / name).write_bytes(pickle.dumps(HarmfulPickle(RAN)))
    for name in ("tokenizer.pkl", "vocab.pt", "chat_template.jinja", "sentencepiece.bpe.model"):
        (base / "tokenizer" / name).write_bytes(pickle.dumps(HarmfulPickle(RAN)))

    running.run(base, shards["text"], Path("run"), running.ReporterSpy(), steps=1)

    assert not Path(RAN).exists()
    assert sorted(path.relative_to("run/model").as_posix() for path in files("run/model")) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def files(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_no_command_runs_code_of_a_base_or_asks_whether_to(soupctl, bases, shards, tiny):
    plant(bases["text"])
    pytest.importorskip("tiny_banks").write_bank(Path("base"), "bank")
    Path("base").rename("sound")
    training = ("--data", shards["text"], "-o", "run", "--steps", 1)
    sample = ("sample", "base", "--prompt", "a bar", "-o", "a.png")
    # training is tried with all attacks above, without a command line
    others = (
        ("finetune", "base", *training),
        ("patch-dmp", "base", *training),
        ("inspect", "bank", "--base", "base"),
        ("stack", "base", "bank", "-o", "stack"),
        ("inspect", "base"),
    )

    for attack, prepare in REFUSED.items():
        shutil.rmtree("base", ignore_errors=True)
        shutil.copytree("sound", "base")
        prepare()
        for words in (sample, *(others if attack in MAPPED else ())):
            done = soupctl(*words, answers="y\ny\n")
            # that does not load what it looks at
            codes = (0,) if words == ("inspect", "base") else (3, 4)
            assert done.code in codes, (attack, words, done.err)
            assert "[y/N]" not in done.out + done.err, (attack, words)
            assert not Path(RAN).exists(), (attack, words)


def test_a_bank_with_code_beside_it_is_stacked_and_drawn_without_running_it(soupctl, bases, tiny):
    plant(bases["dit"])
    pytest.importorskip("tiny_banks").write_bank(Path("base"), "bank")
    Path("bank", "adapter_model.bin").write_bytes(pickle.dumps(HarmfulPickle(RAN)))
    shutil.copy("base/evil.py", "bank/evil.py")

    stacked = soupctl("stack", "bank", "-o", "stack")
    drawn = soupctl("sample", "base", "--bank", "bank", "--images", 1, "--steps", 1, "-o", "a.png")
    edit("bank/adapter_config.json", auto_map={"AutoModel": "evil.Model"})
    refused = soupctl("stack", "bank", "-o", "again")

    assert (0, 0, 3) == (stacked.code, drawn.code, refused.code), refused.err
    assert not Path(RAN).exists()
    assert {"adapter_config.json", "adapter_model.safetensors", "stack_config.json"} == {
        path.name for path in files("stack")
    }
