"""The command: plan, runs of several data shards, and what a run's folder holds in the end."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from soupctl.choices import Prediction, SaveDtype
from soupctl.errors import InputError
from soupctl.training.metrics import read_metrics

LAYOUT = {
    "README.md",
    "checkpoints",
    "data.jsonl",
    "loss.png",
    "metrics.jsonl",
    "model",
    "raw",
    "samples",
    "soupctl.json",
}


@pytest.fixture
def shards_of_two(tiny, soupctl) -> None:
    """Data shards of unlike size: shards/cats and shards/dogs."""
    tiny.captioned_shard(Path("shards/cats"), count=2)
    tiny.captioned_shard(Path("shards/dogs"), count=6)


def test_the_plan_is_printed_and_nothing_is_made(soupctl, bases, shards_of_two):
    words = ("--data", "shards/*", "-o", "runs/{name}", "--epochs", 2, "--batch-size", 3)

    plan = soupctl("finetune", bases["text"], *words, "-n")
    read = soupctl("finetune", bases["text"], *words, "-n", "--json")

    assert (0, "") == (plan.code, plan.err)
    assert "data       shards/dogs: 6 images, 6 captions" in plan.out
    assert "steps      4 (2 epochs)" in plan.out
    assert "parameters 52,004 trained, 17,927 frozen" in plan.out
    assert "device     cpu, fp32" in plan.out
    assert [2, 4] == [each["steps"] for each in json.loads(read.out)]
    assert not Path("runs").exists()


def test_a_dry_run_refuses_what_the_run_would_refuse_and_changes_nothing(soupctl, bases, shards):
    words = ("finetune", bases["plain"], "--data", shards["plain"], "--steps")
    assert soupctl(*words, 2, "-o", "run").code == 0
    Path("file").write_text("x")
    before = sorted((str(path), path.stat().st_mtime_ns) for path in Path().rglob("*"))

    done = soupctl(*words, 1, "-o", "run", "-n")
    other = soupctl(*words, 2, "--lr", 1, "-o", "run", "-n")
    blocked = soupctl(*words, 2, "-o", "file", "-n")

    assert (0, "run is already complete\n") == (done.code, done.err)
    assert (6, 6) == (other.code, blocked.code)
    assert "run: contains another run: lr is 1e-05 there and 1.0 here" in other.err
    assert "file: exists, and is not a folder" in blocked.err
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in Path().rglob("*"))

    record = Path("run/soupctl.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    fewer, same = soupctl(*words, 1, "-o", "run", "-n"), soupctl(*words, 2, "-o", "run", "-n")
    assert (6, 0) == (fewer.code, same.code)
    assert "is already at step 2, after the last step, 1 (increase --steps)" in fewer.err
    assert same.err == "resuming from run/checkpoints/step-000002\n"


def test_the_plan_tells_of_captions_that_are_cut_off_and_of_elongated_images(soupctl, bases):
    Path("data").mkdir()
    for name, caption in (("a", "a red circle " * 9), ("b", "a bar\n\non white")):
        Image.new("RGB", (8, 100)).save(f"data/{name}.png")
        Path(f"data/{name}.txt").write_text(caption)
    Path("whole.toml").write_text('caption-files = "whole"')

    words = ("--data", "data", "-o", "run", "--steps", 1, "--config", "whole.toml", "-n")
    plan = soupctl("finetune", bases["text"], *words)

    assert plan.code == 0
    assert "1 caption cut off after 8 tokens: a.png" in plan.out
    assert "2 images elongated, of which only a square is used: a.png, b.png" in plan.out
    assert "data       data: 2 images, 2 captions" in plan.out


def test_each_data_shard_makes_one_ingredient_and_finished_ones_are_skipped(
    soupctl, bases, shards_of_two
):
    words = ("finetune", bases["text"], "--data", "shards/*", "-o", "runs/{name}", "--epochs", 1)

    first = soupctl(*words, "--json")
    again = soupctl(*words, "--json", "-q")
    soup = soupctl(
        "avg", "runs/cats/model", "runs/dogs/model", "-o", "soup", "--weight-by", "samples"
    )
    log = soupctl("log", "soup", "--component", "unet", "--tree")

    assert (0, 0, 0) == (first.code, again.code, soup.code), soup.err
    assert "" == again.err
    shards = [line for line in first.err.splitlines() if line.startswith("shard ")]
    assert ["shard      1 of 2", "shard      2 of 2"] == shards
    runs = json.loads(first.out)
    assert ["runs/cats", "runs/dogs"] == [each["output"] for each in runs]
    assert runs == [{**each, "was_complete": False} for each in json.loads(again.out)]
    assert " 25.000%  cats/model  (weight 2" in log.out
    assert "trained   2 steps on dogs (6 images, blake3:" in log.out


def test_a_run_folder_holds_the_documented_files(soupctl, bases, shards):
    Path("run.toml").write_text('log-every = 1\nsample-steps = 2\nprompt = ["a red circle"]\n')
    words = ("--config", "run.toml", "--steps", 3, "--sample-every", 2)

    done = soupctl("finetune", bases["text"], "--data", shards["text"], "-o", "run", *words)

    assert done.code == 0, done.err
    assert LAYOUT == {path.name for path in Path("run").iterdir()}
    # the model holds each part once
    parts = sorted(path.parent.name for path in Path("run/model").rglob("*.safetensors"))
    assert ["text_encoder", "unet", "vae"] == parts
    assert ["unet"] == [path.parent.name for path in Path("run/raw").rglob("*.safetensors")]
    grids = sorted(path.name for path in Path("run/samples").iterdir())
    assert [f"step-{step:06}.png" for step in (0, 2, 3)] == grids
    rows = read_metrics(Path("run"))
    assert [1, 2, 3] == [row["step"] for row in rows]
    keys = ["step", "epoch", "loss", "lr", "grad_norm", "it/s", "samples_seen", "time"]
    assert keys == list(rows[0])
    assert "step-000003\n" == Path("run/checkpoints/latest").read_text()
    record = json.loads(Path("run/soupctl.json").read_text())
    assert (True, 3, 12) == (record["finished"], record["steps"], record["samples_seen"])


def test_the_checkpoints_that_are_kept_are_searched_for_their_best_mean(soupctl, bases, shards):
    Path("run.toml").write_text("keep = 3")
    Path("score.py").write_text(
        "def size(arrays):\n    return sum(float((each**2).sum()) for each in arrays.values())\n"
    )
    words = ("--config", "run.toml", "--steps", 4, "--save-every", 1, "--lr", 1e-2)
    run = soupctl("finetune", bases["plain"], "--data", shards["plain"], "-o", "run", *words)
    snapshots = sorted(Path("run/checkpoints").glob("*/model.safetensors"))

    found = soupctl(
        *("search", *snapshots, "--scorer", "score.py:size", "--minimize", "--trials", 4),
        *("-o", "best.safetensors"),
    )

    assert (0, 0) == (run.code, found.code), found.err
    assert [f"step-00000{step}" for step in (2, 3, 4)] == [path.parent.name for path in snapshots]
    model = diffusers.UNet2DModel.from_pretrained(bases["plain"] / "unet")
    model.load_state_dict(load_file("best.safetensors"))


def test_the_same_seed_draws_the_same_grid(trained, tmp_path):
    more = {"steps": 1, "sample_every": 1, "sample_steps": 2}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        trained("class", tmp_path / name, seed=seed, **more)

    one, same, other = (
        np.asarray(Image.open(tmp_path / name / "samples" / "step-000000.png"))
        for name in ("one", "same", "other")
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_cached_latents_are_encoded_once_and_train_as_well(trained, tmp_path):
    spy = trained("text", tmp_path / "run", cache_latents=True, flip=True)
    files = sorted((tmp_path / "run" / "latents").iterdir())
    times = [path.stat().st_mtime_ns for path in files]

    trained("text", tmp_path / "run", steps=6, cache_latents=True, flip=True)

    assert spy.steps == [1, 2, 3, 4]
    assert len(files) == 6
    assert times == [path.stat().st_mtime_ns for path in files]
    assert {"plain", "flipped"} == set(load_file(files[0]))


def test_cached_latents_are_those_that_would_be_encoded_anew(trained, tmp_path):
    for run, cached in (("cached", True), ("anew", False)):
        trained("text", tmp_path / run, cache_latents=cached, flip=True)
    cached, anew = (
        [row["loss"] for row in read_metrics(tmp_path / run)] for run in ("cached", "anew")
    )

    assert np.allclose(cached, anew, rtol=1e-4)
    assert len(set(anew)) == 4


def test_cached_latents_that_went_bad_are_one_line_with_the_way_out(trained, tmp_path):
    trained("text", tmp_path / "run", cache_latents=True)
    for path in (tmp_path / "run" / "latents").iterdir():
        path.write_bytes(b"bad")

    with pytest.raises(
        InputError, match=r"cannot be read: .*delete the file to encode the image again"
    ):
        trained("text", tmp_path / "run", cache_latents=True, steps=5)


def test_the_plan_counts_the_size_of_cached_latents(soupctl, bases, shards):
    Path("run.toml").write_text("cache-latents = true\n")
    words = ("--data", shards["text"], "-o", "run", "--steps", 1, "--config", "run.toml")

    plan = soupctl("finetune", bases["text"], *words, "-n")
    (read,) = json.loads(soupctl("finetune", bases["text"], *words, "-n", "--json").out)

    # 6 images and their mirror images, mean and log variance, 4 x 4 x 4 numbers of 4 bytes
    assert 6 * 2 * 2 * 64 * 4 == read["latents_bytes"]
    assert 3 * read["checkpoint_bytes"] + read["model_bytes"] + 6144 == read["disk_bytes"]
    assert ", latents 6.14 kB)" in plan.out


def test_data_shards_that_would_go_to_one_place_are_refused_at_once(soupctl, bases, tiny):
    for place in ("x/cats", "y/cats", "x-cats"):
        tiny.captioned_shard(Path(place), count=2)
    words = ("--data", "[xy]/cats", "--data", "x-cats", "-o", "runs/{name}", "--steps", 1)

    done = soupctl("finetune", bases["plain"], *words)

    assert 2 == done.code
    assert done.err.startswith("soupctl: runs/x-cats: would be the output of two data shards")
    assert not Path("runs").exists()


def test_a_data_shard_that_is_named_twice_is_trained_on_once(soupctl, bases, tiny):
    tiny.captioned_shard(Path("cats"), count=2)
    words = ("--data", "cats", "--data", Path("cats").absolute(), "-o", "run", "--steps", 1)

    plan = soupctl("finetune", bases["plain"], *words, "-n", "--json")

    assert ["cats"] == [each["data"] for each in json.loads(plan.out)]


def test_rounding_on_save_is_reported_and_correct(trained, tmp_path):
    trained("plain", tmp_path / "wide")
    spy = trained("plain", tmp_path / "narrow", save_dtype=SaveDtype.BFLOAT16)

    name = "model/unet/diffusion_pytorch_model.safetensors"
    wide, narrow = (load_file(tmp_path / run / name) for run in ("wide", "narrow"))
    assert all(wide[key].bfloat16().equal(narrow[key]) for key in wide)
    assert "rounding to bfloat16 changes " in spy.said[-1]
    assert spy.said[-1].endswith("of what was learned (--save-dtype float32 avoids this)")


def test_a_half_precision_base_is_trained_in_float32_and_can_be_saved_as_it_was(
    tiny, bases, shards, running, tmp_path
):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(bases["plain"])
    pipeline.to(tiny.torch.float16).save_pretrained(tmp_path / "half")
    name = "model/unet/diffusion_pytorch_model.safetensors"

    for output, dtype in (("wide", SaveDtype.FLOAT32), ("narrow", SaveDtype.BASE)):
        place = tmp_path / output
        running.run(
            tmp_path / "half", shards["plain"], place, running.ReporterSpy(), save_dtype=dtype
        )

    kinds = [
        {tensor.dtype for tensor in load_file(tmp_path / output / name).values()}
        for output in ("wide", "narrow")
    ]
    assert [{tiny.torch.float32}, {tiny.torch.float16}] == kinds


@pytest.mark.parametrize("prediction", [Prediction.EPSILON, Prediction.VELOCITY])
def test_the_saved_scheduler_has_the_trained_prediction_type(tiny, trained, tmp_path, prediction):
    trained("text", tmp_path / "run", steps=1, prediction=prediction)

    loaded = diffusers.DDIMScheduler.from_pretrained(tmp_path / "run/model/scheduler")

    assert prediction == loaded.config.prediction_type
    assert loaded.config.steps_offset == 1


def test_a_bare_denoiser_is_a_base(tiny, shards, running, tmp_path):
    tiny.plain_base(tmp_path / "pipeline")
    (tmp_path / "pipeline" / "unet").rename(tmp_path / "bare")

    running.run(tmp_path / "bare", shards["plain"], tmp_path / "run", running.ReporterSpy())

    model = diffusers.UNet2DModel.from_pretrained(tmp_path / "run" / "model")
    assert model.config.sample_size == 8
    assert {"config.json", "diffusion_pytorch_model.safetensors"} == {
        path.name for path in (tmp_path / "run" / "model").iterdir()
    }
