"""The validation loss: of other images, with the same draws, and without a trace in the weights."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from soupctl.diffusion import rng
from soupctl.diffusion.base import Conditioning
from soupctl.errors import InputError, UsageError
from soupctl.ledger.data_shard import read_data_record
from soupctl.training.dataset import scan_dataset
from soupctl.training.held_out import common_images, hold_out
from soupctl.training.loader import read_pixels
from soupctl.training.options import Options


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    return [(row["step"], row["validation_loss"]) for row in rows]


def weights(run: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((run / name / WEIGHTS).read_bytes()).hexdigest()
        for name in ("model", "raw")
    }


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
VALIDATED = {"steps": 4, "save_every": 2, "flip": True, "random_crop": True}


@pytest.fixture(scope="module")
def run(running, bases, shards, tmp_path_factory):
    """A run with a validation loss at each checkpoint, and what it said."""
    out, spy = tmp_path_factory.mktemp("validated") / "run", running.ReporterSpy()
    validate = str(shards["class"])
    running.run(bases["plain"], shards["plain"], out, spy, validate=validate, **VALIDATED)
    return out, spy


def test_it_is_measured_reported_and_recorded_at_start_checkpoints_and_end(run, shards):
    out, spy = run
    record = json.loads((out / "soupctl.json").read_text())["validation"]

    assert [0, 2, 4] == [step for step, _ in losses(out)]
    assert [f"step {step}: validation loss {loss:.5f}" for step, loss in losses(out)] == [
        text for text in spy.said if "validation" in text
    ]
    assert losses(out) == [(row["step"], row["validation_loss"]) for row in record["losses"]]
    assert (str(shards["class"]), 6) == (record["path"], record["images"])


def test_it_changes_no_weight_and_depends_on_neither_seed_nor_augmentation(run, trained, tmp_path):
    out, _ = run
    trained("plain", tmp_path / "plain", **VALIDATED)
    seeded = {"seed": 5, "steps": 1, "cond_drop": 0.9, "noise_offset": 0.5, "snr_gamma": None}
    validate = json.loads((out / "soupctl.json").read_text())["validation"]["path"]
    trained("plain", tmp_path / "other", validate=validate, **seeded)

    assert weights(tmp_path / "plain") == weights(out)
    assert not (tmp_path / "plain" / "validation.jsonl").exists()
    assert losses(out)[0] == losses(tmp_path / "other")[0]
    assert losses(out)[-1] != losses(out)[0]


def test_a_resumed_run_has_each_measurement_once_and_the_same(run, trained, shards, tmp_path):
    out, _ = run
    shutil.copytree(out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    shutil.rmtree(tmp_path / "run" / "model")

    trained("plain", tmp_path / "run", validate=str(shards["class"]), **VALIDATED)

    assert losses(out) == losses(tmp_path / "run")
    assert weights(out) == weights(tmp_path / "run")


def test_it_is_the_loss_by_hand_of_the_published_weights(run, shards, running):
    out, _ = run
    samples = scan_dataset(shards["class"], Conditioning.NONE).samples
    model = UNet2DModel.from_pretrained(out / "model" / "unet").eval()
    alphas, found = DDPMScheduler().alphas_cumprod, []
    for position in range(4 * len(samples)):
        sample = samples[rng.sample_index(0, position, len(samples))]
        image = torch.from_numpy(read_pixels(sample, 8, 3, (0.5, 0.5)))[None]
        noise = torch.from_numpy(rng.normal((3, 8, 8), 0, "noise", position))[None]
        time = rng.integer(1000, 0, "timestep", position)
        noisy = alphas[time].sqrt() * image + (1 - alphas[time]).sqrt() * noise
        with torch.no_grad():
            found.append(float((model(noisy, time).sample - noise).square().mean()))

    assert sum(found) / len(found) == pytest.approx(losses(out)[-1][1], rel=1e-5)


@pytest.mark.parametrize("family", ["text", "class"])
def test_a_share_of_the_images_is_held_out_of_training(family, running, bases, shards, tmp_path):
    options = {"validate_share": 0.4, "steps": 1}
    running.run(bases[family], shards[family], tmp_path / "run", running.ReporterSpy(), **options)
    record = json.loads((tmp_path / "run" / "soupctl.json").read_text())
    trained_on = read_data_record(tmp_path / "run" / "data.jsonl")

    assert (4, 2) == (len(trained_on), record["validation"]["images"])
    assert (4, 2) == (record["data"]["images"], len(losses(tmp_path / "run")))


def test_what_is_held_out_depends_on_the_bytes_alone_and_equal_files_stay_together(
    shards, tmp_path
):
    shutil.copytree(shards["plain"], tmp_path / "data")
    plain = scan_dataset(tmp_path / "data", Conditioning.NONE)
    for path in sorted((tmp_path / "data").glob("*.png")):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    doubled = scan_dataset(tmp_path / "data", Conditioning.NONE)

    for share in (0.01, 0.2, 0.5, 0.8):
        trained, held = hold_out(doubled, share)
        once = {each.digest for each in hold_out(plain, share)[1].samples}
        assert once == {each.digest for each in held.samples}
        assert not once & {each.digest for each in trained.samples}
        assert len(doubled.samples) == len(trained.samples) + len(held.samples)
    with pytest.raises(InputError, match="has 12 images, of which none would be left"):
        hold_out(doubled, 1.0)
    (text,) = common_images(plain, doubled)
    assert text.startswith("12 validation images also trained on: 0.png, 1.png, 2.png and 9 more")


def test_the_split_for_training_is_not_taken_for_validation(running, bases, shards, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(shards["plain"], tmp_path / "data" / split)

    with pytest.raises(InputError, match="is divided into splits, of which train is for training"):
        running.prepared_runs(
            *(bases["plain"], [shards["plain"]], tmp_path / "run"), validate=str(tmp_path / "data")
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"validate": "a", "validate_share": 0.5},
            "--validate and --validate-share exclude each other: give one of them",
        ),
        ({"validate_share": 0.0}, "--validate-share must be above 0 and at most 1, not 0.0"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(values, message):
    with pytest.raises(UsageError) as refusal:
        Options(**values)

    assert message == refusal.value.message()


def test_a_folder_that_is_not_there_is_refused(running, bases, shards, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: is not a folder \(validate needs a folder"):
        running.prepared_runs(bases["plain"], [shards["plain"]], tmp_path, validate="nowhere")
