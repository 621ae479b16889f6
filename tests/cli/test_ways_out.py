"""Every refusal that names an option: whoever does what it says gets what was asked for.

Rule 1: the advice is read out of the message; only what no message can know, such as the folder to
search, is given by the test.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from advised import Refused, followed, is_said, texts_with_options
from attesting import attest
from making import save, save_pipeline, save_shards
from refused_commands import REFUSED_COMMANDS
from refused_merges import REFUSED_MERGES, save_inputs
from revising import average, root
from signing_keys import save_certificates, save_key
from torch_files import save_torch
from trained import save_shard, save_trained

from soupctl.choices import Level, OnMissing, Quantization
from soupctl.cli.main import SIGNALS, main
from soupctl.format import shards
from soupctl.merge import destination
from soupctl.verbs import Greedy, Request, Scoring, greedy

REFUSED = [*REFUSED_COMMANDS, *REFUSED_MERGES]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints that can be averaged, and others that cannot be as they are."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _save_files()
        _save_journals()
        _save_folders()
        _save_attestations()
        save_inputs()
    return folder


def _save_files() -> None:
    plain = {"conv.weight": np.arange(8, dtype=np.float16), "steps": np.array([7])}
    for number, name in enumerate(("a", "b", "c", "d")):
        save(Path(f"{name}.st"), **plain | {"conv.weight": plain["conv.weight"] + number})
    save(Path("integers.st"), **plain | {"steps": np.array([8])})
    save(Path("nan.st"), **plain | {"conv.weight": np.full(8, np.nan, np.float16)})
    save(Path("fewer.st"), steps=plain["steps"])
    save(Path("more.st"), **plain, other=np.ones(3, np.float32))
    save(Path("wider.st"), **plain | {"conv.weight": np.arange(9, dtype=np.float16)})
    save(Path("float-steps.st"), **plain | {"steps": np.ones(1, np.float32)})
    ema = {"model_ema.decay": np.ones(1, np.float32), "model_ema.convweight": np.ones(8)}
    save(Path("ema.st"), **plain, **ema)
    save(Path("schedule.st"), **plain, betas=np.ones(3, np.float32))
    for number in (0, 1):
        schedule = {"betas": np.full(3, number, np.float32), "mask": np.array([bool(number)])}
        save(Path(f"betas-{number}.st"), w=np.ones(3), betas=schedule["betas"])
        save(Path(f"ids-{number}.st"), w=np.ones(3), position_ids=np.arange(number, number + 3))
        save(Path(f"mask-{number}.st"), w=np.ones(3), flags=schedule["mask"])
        save(Path(f"large-{number}.st"), w=np.full(3, 65504.0 * (1 - 2 * number), np.float16))
        save(Path(f"huge-{number}.st"), w=np.full(3, 3e38 * (1 - 2 * number), np.float32))
    _save_quantised()
    average(Path("soup.st"), "a.st", "b.st")
    average(Path("kept.st"), "a.st", "b.st", keep_sum=True)
    (kept,) = Path().glob("kept.st.*.sum")
    shutil.copy(kept, "alone.sum")
    Path("list").write_text(f"{root('a.st')}  a.st\n")
    average(Path("deep.st"), "soup.st", "c.st")
    average(Path("first.st"), "a.st", "b.st", take=[("steps", "a.st")])
    Path("old.st").write_bytes(b"old")
    Path("moved").mkdir()
    save(Path("moved/gone.st"), **plain | {"conv.weight": plain["conv.weight"] * 3})
    average(Path("lost.st"), "a.st", "moved/gone.st", "b.st")
    missing = ["a.st", "moved/gone.st", "fewer.st"]
    average(Path("dropped.st"), *missing, on_missing=OnMissing.DROP, keep_sum=True)
    Path("moved").rename("elsewhere")
    raw = Path("soup.st").read_bytes()
    Path("newer.st").write_bytes(raw.replace(rb"\"format\":1", rb"\"format\":9"))
    Path("damaged.st").write_bytes(raw.replace(rb"\"format\":1", rb"\"format\":["))

    Path("changed.st").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


def _save_journals() -> None:
    for name in ("scored.st", "spoilt.st"):
        scoring = Scoring(command="echo 1 # {}")
        greedy(Greedy(Request(["a.st", "b.st"], name), scoring))
        Path(name).unlink()
    with Path("spoilt.st.greedy.jsonl").open("a") as journal:
        journal.write("{}\n")


def _save_attestations() -> None:
    Path("pair").mkdir()
    for name in ("one", "two"):
        average(f"pair/{name}.st", "a.st", "b.st")
    made = save_key("key")
    save_certificates("ca", made)
    attest("soup.st", level=Level.DIGEST, sign_with=Path("key.pem"))
    attest("whole", "whole.json", level=Level.DIGEST)


def _save_quantised() -> None:
    codes = {"l.weight": np.ones((4, 4), np.uint8), "l.weight.absmax": np.ones(2, np.float32)}
    save(Path("nf4.st"), **codes)
    save_torch(Path("nested.ckpt"), "ema", "model")
    for name, value in (("plain-gguf", 1), ("large", 3e38)):
        layer = np.full((2, 32), value, np.float32)
        save(Path(f"{name}.st"), **{"blocks.0.l.weight": layer})
    unet = "model.diffusion_model"
    layers = {
        f"{unet}.input_blocks.0.0.weight": np.ones((2, 2, 3, 3), np.float16),
        f"{unet}.middle_block.1.transformer_blocks.0.attn1.to_q.weight": np.ones((2, 2)),
    }
    save(Path("ldm.st"), **layers, **{"model_ema.decay": np.ones(1, np.float32)})
    save(Path("plain-ldm.st"), **layers)
    average(Path("coded.st"), "plain-ldm.st", quantize=Quantization.FP8_SCALED)


def _save_folders() -> None:
    for number in (0, 1, 2):
        save_pipeline(Path(f"pipe-{number}"), number)
        save(Path(f"run-{number}/model.safetensors"), w=np.full(4, number, np.float16))
        Path(f"run-{number}/config.json").write_text(f'{{"hidden_size": {4 + number}}}')
    average("run-soup", "run-0")
    shutil.copytree("pipe-1", "no-vae")
    shutil.rmtree("no-vae/vae")
    shutil.copytree("pipe-1", "pickled-vae")
    weights = Path("pickled-vae/vae/diffusion_pytorch_model.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    save(Path("odd-pipe/safety_checker/model.safetensors"), w=np.ones(2))
    for name in ("unet", "vae"):
        tensors = {"quant_conv.weight": np.ones(2), "encoder.conv_in.weight": np.ones(2)}
        save(Path(f"odd-pipe/{name}/diffusion_pytorch_model.safetensors"), **tensors)
    listed = {name: ["diffusers", "X"] for name in ("safety_checker", "unet", "vae")}
    Path("odd-pipe/model_index.json").write_text(json.dumps(listed))
    save_pipeline(Path("many"), 2)
    for name, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        shutil.rmtree(Path("many", name))
        few = [{f"w{number}": np.ones(2, np.float16)} for number in range(FILES // 2 + 1)]
        save_shards(Path("many", name), stem, *few)
    Path("apart").mkdir()
    average("whole", "pipe-0", "pipe-1")
    average("other-whole", "pipe-0", "pipe-1", "pipe-2")
    for name in ("unet", "vae", "text_encoder"):
        average(f"apart/{name}", "pipe-0", "pipe-1", component=name)
    shutil.copy("pipe-0/model_index.json", "apart")
    shutil.copytree("whole", "mixed")
    shutil.rmtree("mixed/vae")
    shutil.copytree("other-whole/vae", "mixed/vae")
    shutil.copytree("whole", "half")
    shutil.rmtree("half/vae")
    average("half/vae", "pipe-0", "pipe-2", component="vae")
    data = save_shard("images", b"tom", b"felix")
    average("cats.st", save_trained("run", data, 1, base="a.st", with_list=False))
    save_trained("found", data, 1, base="a.st")
    Path("other.png").write_bytes(b"garfield")
    many = [{f"w{number}": np.ones(2, np.float16)} for number in range(FILES + 1)]
    save_shards(Path("shards"), "model", *many)
    save(Path("variants/model.fp16.safetensors"), w=np.ones(2))
    save(Path("variants/model.safetensors.fp32.safetensors"), w=np.ones(2))


MOST_STEPS = 4
"""Refusals in a row that may follow from one command."""


FILES = 8
"""As many shards are written at most here, where soupctl writes more."""


@pytest.fixture
def run(world, monkeypatch, capsys) -> Callable[[Sequence[str]], tuple[int, str]]:
    """The exit code of a command in the world, and what it says; what it writes is removed."""
    monkeypatch.chdir(world)
    for module in (shards, destination):
        monkeypatch.setattr(module, "MOST_SHARDS", FILES)
    before = set(world.iterdir())

    def run(arguments: Sequence[str]) -> tuple[int, str]:
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for path in {*world.iterdir()} - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.err + said.out

    return run


@pytest.mark.parametrize("refused", REFUSED, ids=lambda each: each.command)
def test_following_the_advice_of_a_refusal_succeeds(run, refused: Refused):
    arguments = shlex.split(refused.command)
    code, message = run(arguments)

    assert code in range(1, 9), message
    assert [] == [text for text in refused.says if not is_said(text, message)], message
    ways = [shlex.split(each) for each in refused.instead]
    ways = ways or [*followed(arguments, message, refused.values)]
    assert ways, message
    for way in ways:
        _walk(run, way, refused, MOST_STEPS)


def _walk(run, arguments: list[str], refused: Refused, steps: int) -> None:
    """Run a command, and follow what it advises in turn until it does what was asked for."""
    code, message = run(arguments)
    if code in (0, refused.ends):
        return
    ways = [*followed(arguments, message, refused.values)] if steps else []

    assert ways, (arguments, message)
    for way in ways:
        _walk(run, way, refused, steps - 1)


NO_REFUSALS = frozenset(
    {
        "(--tensors lists every tensor)",
        "--{}/--no-{}",
        "padded with zero input channels (--pad): {}",
        "taken with another shape than the inputs have (--take): {}",
        "as after --ignore-ledger; what the soup holds of it is not known",
        "avg --dtype {} makes {}",
        "left out by --key or --exclude",
        (
            "the file names no architecture, because the tensors are those of no model that ComfyUI"
            " reads as GGUF; --set {}=NAME gives one"
        ),
        (
            "soupctl --install-completion lets the shell complete commands, options, dtypes, and"
            " the ingredients of a soup."
        ),
        "soupctl COMMAND --help describes a command and its options.",
        "soupctl avg cats.safetensors dogs.safetensors -o soup.safetensors",
        "soupctl subtract soup.safetensors dogs.safetensors -o rest.safetensors",
        "soupctl verify rest.safetensors --level rebuild",
        "soupctl: {}; the first ingredient's values were taken (--on-int first)",
        "taken from one ingredient by --take",
        '<p class="note">Only {} lines are shown: soupctl log --tree has all.</p>',
        "averaged over the inputs that have them (--on-missing keep): {}",
        (
            "some inputs lack copies of other tensors, which are filled in: {} (--exclude leaves"
            " them out)"
        ),
    }
)
"""Texts of help, plans and notes."""

OF_THE_MACHINE = frozenset(
    {
        # no memory or no threads are left, or no GPU is there or has room
        "--device cpu computes the same bytes",
        "--device cpu has no such limit",
        "--device cpu needs none",
        "--max-memory or --threads 1 needs less",
        "--threads 1 needs none",
        # Ray is not installed, no cluster runs, or its machines are small
        "--ray needs ray, which is not installed",
        "ray start --head starts one; or --ray local",
        "lower --threads, or OMP_NUM_THREADS of finetune",
        # what a sum takes follows from the values
        "--max-memory {} allows them; with --no-keep-sum, no sum is kept",
        # the limit of the shell
        "see ulimit -f",
    }
)
"""Texts of refusals that depend on the machine, which other tests make it give."""

TRAINING = ("banks", "diffusion", "images", "training")
OF_TRAINING = ("banks.py", "sample.py", "stack.py", "training_options.py")
STYLE = "style.py"
"""The style sheet of reports, whose variables look like options."""


def test_every_text_that_names_an_option_is_of_a_refusal_that_is_tried():
    found = texts_with_options(
        lambda path: path.parts[0] not in TRAINING and path.name not in (*OF_TRAINING, STYLE)
    )
    tried = {text for refused in REFUSED for text in refused.says}

    assert set() == found - tried - NO_REFUSALS - OF_THE_MACHINE
    assert set() == (tried | NO_REFUSALS | OF_THE_MACHINE) - found
