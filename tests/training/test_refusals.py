"""Bad input is refused in one line with advice, and with the documented exit code."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from soupctl.diffusion import libraries
from soupctl.errors import LimitError, OutputError

WORDS = ("--data", "data", "-o", "out", "--steps", "2", "--batch-size", "2")


@pytest.fixture
def refused(soupctl, bases, shards):
    """The message about a base and a data shard, after the test has changed copies of them."""

    def run(family: str, code: int, *words: str, change=lambda: None) -> str:
        shutil.copytree(bases[family], "base")
        shutil.copytree(shards[family], "data")
        change()
        done = soupctl("finetune", "base", *WORDS, *words)
        assert code == done.code, done.err
        *before, last = done.err.splitlines()
        assert last.startswith("soupctl: ")
        assert not [line for line in before if line.startswith(("soupctl", "Traceback"))]
        return last.removeprefix("soupctl: ")

    return run


def edit(path: str, **changes: object) -> None:
    """Change values of a JSON file."""
    content = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**content, **changes}))


def empty(folder: str) -> None:
    for path in sorted(Path(folder).rglob("*.*")):
        path.unlink()


def tear(path: str) -> None:
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


UNET = "base/unet/config.json"
SCHEDULER = "base/scheduler/scheduler_config.json"
ENDINGS = ".apng, .avif, .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .tif, .tiff, .webp"
ADVICE = "(--skip-bad leaves such images out)"

BAD_INPUTS = {
    "no images": (
        *("text", 3, (), lambda: empty("data")),
        f"data: contains no images (image files end in {ENDINGS})",
    ),
    "an unreadable image": (
        *("text", 3, (), lambda: Path("data/0.png").write_bytes(b"")),
        f"data: 1 image unreadable: 0.png (has 0 bytes) {ADVICE}",
    ),
    "missing captions": (
        *("text", 3, (), lambda: [Path(f"data/{n}.txt").unlink() for n in range(4)]),
        "data: 4 images without a caption (no .txt or .caption file): 0.png, 1.png, 2.png and 1 "
        "more " + ADVICE,
    ),
    "missing classes": (
        *("class", 3, (), lambda: shutil.copy("data/red/0.png", "data/x.png")),
        f"data: 1 image without a class (neither in a subfolder nor with a label): x.png {ADVICE}",
    ),
    "too few classes": (
        *("class", 4, (), lambda: shutil.rmtree("data/red")),
        (
            "data: expected 3 classes, as in the base, and found 2 (name all 3 in order with "
            "classes = [...] in --config; the last class embedding is the null class; "
            "--cond-drop 0 makes it a class)"
        ),
    ),
    "a resolution that the vae does not divide": (
        *("text", 4, ("--resolution", "9"), lambda: None),
        "base: --resolution is 9, but must be a multiple of 4 (such as 8 or 12)",
    ),
    "another resolution for a dit": (
        *("dit", 4, ("--resolution", "16"), lambda: None),
        "base: supports only images of 8 pixels, but --resolution is 16",
    ),
    "no diffusers folder": (
        *("text", 3, (), lambda: empty("base")),
        (
            "base: is not a diffusers folder (it needs model_index.json, or config.json of a bare "
            "denoiser)"
        ),
    ),
    "a checkpoint of another trainer": (
        *("text", 3, (), lambda: Path("base/model_index.json").unlink()),
        (
            "base: is not a diffusers folder (use base/unet, or for captions its base with this "
            "unet in it)"
        ),
    ),
    "a folder that is not there": (
        *("text", 3, (), lambda: shutil.rmtree("base")),
        "base: is not a folder (a base is a local diffusers folder; soupctl downloads nothing)",
    ),
    "a single file": (
        *("text", 3, (), lambda: (shutil.rmtree("base"), Path("base").touch())),
        (
            "base: is a file, but a base is a diffusers folder or a .safetensors file of a "
            "pipeline (give one of these)"
        ),
    ),
    "an adapter": (
        *("text", 3, (), lambda: (empty("base"), Path("base/adapter_config.json").touch())),
        "base: is an adapter, not a model (merge it with diffusers' fuse_lora)",
    ),
    "a model of another library": (
        *("text", 4, (), lambda: Path(UNET).write_text('{"model_type": "llama"}')),
        (
            "base/unet: is not a diffusers model; supported are UNet2DConditionModel, "
            "UNet2DModel, DiTTransformer2DModel, SD3Transformer2DModel, FluxTransformer2DModel"
        ),
    ),
    "weights that are torn": (
        *("text", 3, (), lambda: tear("base/unet/diffusion_pytorch_model.safetensors")),
        "base/unet/diffusion_pytorch_model.safetensors: has ",
    ),
    "another denoiser": (
        *("text", 4, (), lambda: edit(UNET, _class_name="PixArtTransformer2DModel")),
        (
            "base/unet: has class PixArtTransformer2DModel; supported are UNet2DConditionModel, "
            "UNet2DModel, DiTTransformer2DModel, SD3Transformer2DModel, FluxTransformer2DModel"
        ),
    ),
    "conditions of another kind": (
        *("text", 4, (), lambda: edit(UNET, addition_embed_type="text_image")),
        (
            "base/unet: has conditions of the kind text_image besides text, which is not supported "
            "(use SD 1.x, SD 2.x or SDXL)"
        ),
    ),
    "sdxl without its second text encoder": (
        *("text", 4, (), lambda: edit(UNET, addition_embed_type="text_time")),
        ("base/unet: takes captions, but the base has no text_encoder_2 and no tokenizer_2"),
    ),
    "no text encoder": (
        *("text", 4, (), lambda: shutil.rmtree("base/text_encoder")),
        "base/unet: takes captions, but the base has no text_encoder",
    ),
    "flow matching": (
        "text",
        4,
        (),
        lambda: Path(SCHEDULER).write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}'),
        (
            "base/scheduler: is a FlowMatchEulerDiscreteScheduler, and flow matching is supported "
            "for SD 3.x and Flux only"
        ),
    ),
    "noise that teaches nothing": (
        *("text", 2, (), lambda: edit(SCHEDULER, rescale_betas_zero_snr=True)),
        (
            "the base's noise schedule has no signal at the last timestep, so its noise cannot be "
            "the target (if the base predicts v, set prediction = v_prediction in --config)"
        ),
    ),
    "prompts without captions": (
        *("class", 2, ("--prompt", "a cat"), lambda: None),
        "base: is not text-conditional (remove --prompt)",
    ),
    "an optimizer that is not installed": (
        "text",
        7,
        ("--config", "data/x.toml"),
        lambda: Path("data/x.toml").write_text('optimizer = "adamw8bit"'),
        (
            "optimizer = adamw8bit needs bitsandbytes, which is not installed (pip install "
            "bitsandbytes)"
        ),
    ),
    "something else in the output": (
        *("text", 6, (), lambda: shutil.copytree("data", "out")),
        "out: is not empty and contains no run (choose another output with -o)",
    ),
    "a file in place of the output": (
        *("text", 6, (), lambda: Path("out").write_text("mine")),
        "out: exists, and is not a folder (choose another output with -o)",
    ),
    "a checkpoint that is not there": (
        *("text", 3, ("--resume", "nowhere"), lambda: None),
        (
            "nowhere: is not a complete training checkpoint (they are folders such as"
            " checkpoints/step-000500)"
        ),
    ),
    "a loss that is not finite": (
        *("plain", 8, ("--lr", "1e30", "--steps", "5"), lambda: None),
        (
            "out: the loss is not finite at step 2; no checkpoint was saved (try a lower --lr, "
            "or --precision no)"
        ),
    ),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_refused_with_advice(refused, name):
    family, code, words, change, message = BAD_INPUTS[name]

    said = refused(family, code, *words, change=change)

    assert said.startswith(message) if message.endswith(" ") else message == said


def test_the_folder_of_another_run_is_refused_naming_the_differences(soupctl, bases, shards):
    words = ("finetune", bases["plain"], "-o", "out", "--steps", 2, "--batch-size", 2)
    assert soupctl(*words, "--data", shards["plain"]).code == 0

    done = soupctl(*words, "--data", shards["class"], "--seed", 1)
    never = soupctl(*words, "--data", shards["plain"], "--resume", "never")
    fewer = soupctl(*words, "--data", shards["plain"], "--steps", 1)

    assert (6, 6) == (done.code, never.code)
    assert "soupctl: out: contains another run: data is blake3:" in done.err
    assert (
        " here (added: blue/0.png, blue/1.png, green/0.png and 3 more, removed: 0.png," in done.err
    )
    assert (0, "out: already complete, with 2 steps, not 1") == (
        fewer.code,
        fewer.err.splitlines()[-1],
    )
    assert "; out: contains another run: seed is 0 there and 1 here" in done.err
    assert "out: already contains this run" in never.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "--data and -o are required"),
        (("--data", "x/*", "-o", "y"), 3, "x/*: matches no folder"),
        (
            ("--data", "a", "--data", "b", "-o", "y"),
            2,
            "y: 2 data shards cannot share one output (put {name} in it: -o 'runs/{name}')",
        ),
        (
            ("--data", "a", "--data", "b", "-o", "b/../a/{name}"),
            2,
            (
                "b/../a/a: is inside the data shard a, and would become training data "
                "(choose another output with -o)"
            ),
        ),
        (
            ("--data", "a", "-o", "y", "--lr", "0"),
            2,
            "--lr must be positive, not 0.0",
        ),
    ],
)
def test_an_invalid_request_is_refused(soupctl, bases, words, code, message):
    done = soupctl("finetune", bases["text"], *words)

    assert (code, f"soupctl: {message}\n") == (done.code, done.err)


def test_a_name_on_the_hub_is_refused_with_the_download_command(soupctl, shards):
    words = ("--data", shards["text"], "-o", "out", "--steps", 1)

    done = soupctl("finetune", "runwayml/stable-diffusion-v1-5", *words)

    assert (3, "runwayml/stable-diffusion-v1-5: is not a folder") == (done.code, done.err[9:56])
    assert "run 'hf download runwayml/stable-diffusion-v1-5 --local-dir DIR'" in done.err


@pytest.mark.parametrize(
    ("base", "shown"),
    [("hf://org/name", "hf://org/name"), ("https://a:b@h.org/x?token=c", "https://h.org/x")],
)
def test_a_base_at_an_address_is_named_as_it_was_given_without_secrets(
    soupctl, shards, base, shown
):
    done = soupctl("finetune", base, "--data", shards["text"], "-o", "out", "--steps", 1)

    assert (3, f"soupctl: {shown}: is not on this disk") == (done.code, done.err.split(" (")[0])


def test_a_run_needs_steps_or_epochs(soupctl, bases, shards):
    done = soupctl("finetune", bases["text"], "--data", shards["text"], "-o", "out")

    assert (2, "soupctl: give --steps or --epochs\n") == (done.code, done.err)


def test_a_missing_extra_is_named_with_the_install_command(monkeypatch):
    monkeypatch.setattr(libraries, "LIBRARIES", ("json", "no_such_library"))

    with pytest.raises(LimitError) as refusal:
        libraries.require_extra()

    assert refusal.value.message() == (
        "this needs packages that are not installed: no_such_library (pip install 'soupctl[train]')"
    )


def test_a_folder_in_use_by_another_run_is_refused(trained, tmp_path):
    (tmp_path / "run").mkdir()
    fd = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)

    with pytest.raises(OutputError, match="is in use by another run"):
        trained("plain", tmp_path / "run")
    os.close(fd)


def test_a_blocked_terminal_is_not_taken_for_another_run(running, bases, shards, tmp_path):
    class Full(running.ReporterSpy):
        def begin(self, step: int, steps: int) -> None:
            raise BlockingIOError(errno.EAGAIN, "write could not complete without blocking")

    with pytest.raises(BlockingIOError):
        running.run(bases["plain"], shards["plain"], tmp_path / "run", Full())


def test_a_disk_without_room_is_refused_before_the_first_step(trained, tmp_path, monkeypatch):
    real = os.statvfs

    def almost_full(path):
        state = list(real(path))
        return os.statvfs_result((state[0], state[1], state[2], 0, 0, *state[5:]))

    monkeypatch.setattr(os, "statvfs", almost_full)
    with pytest.raises(OutputError, match="bytes of disk space, and 0 are free"):
        trained("plain", tmp_path / "run")

    assert not (tmp_path / "run" / "metrics.jsonl").exists()
