"""Masks weight parts of images in the loss, and regularization images are trained on besides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel

from soupctl.choices import Prediction, Weighting
from soupctl.diffusion import rng
from soupctl.diffusion.base import Conditioning
from soupctl.diffusion.flow import flow_objective
from soupctl.diffusion.objective import Emphasis, objective_of
from soupctl.errors import InputError, OutputError, UsageError
from soupctl.ledger.data_shard import file_digest, read_data_record
from soupctl.training.dataset import scan_dataset
from soupctl.training.loader import Examples, InputSpec, read_pixels
from soupctl.training.options import Options
from soupctl.training.regularized import OTHER_SEED

NONE = Conditioning.NONE


def picture(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def data(tmp_path):
    """Three images, of which two have a mask."""
    for number in range(3):
        picture(tmp_path / f"data/{number}.png", number)
    for number in range(2):
        picture(tmp_path / f"data/{number}.mask.png", 10 + number)
    return tmp_path / "data"


@pytest.fixture
def other(tmp_path):
    """Two regularization images."""
    for number in range(2):
        picture(tmp_path / f"other/{number}.png", 20 + number)
    return tmp_path / "other"


def objectives():
    yield objective_of(DDPMScheduler(), Prediction.AUTO, 5.0)
    scheduler = FlowMatchEulerDiscreteScheduler()
    for is_preconditioned in (False, True):
        yield flow_objective(
            scheduler, Weighting.SIGMA_SQRT, None, is_preconditioned=is_preconditioned
        )


@pytest.mark.parametrize("objective", list(objectives()), ids=["betas", "flow", "preconditioned"])
def test_the_loss_is_the_mean_of_squares_times_mask_and_weight(objective):
    generator = torch.Generator().manual_seed(0)
    predicted, samples, noise = (torch.randn(4, 3, 4, 4, generator=generator) for _ in range(3))
    timesteps = torch.tensor([1, 300, 600, 900])
    masks = torch.rand(4, 1, 4, 4, generator=generator)
    weights = torch.tensor([2.0, 0.5, 2.0, 0.5])

    found = objective.loss(predicted, samples, noise, timesteps, Emphasis(masks, weights))

    alone = [
        float(weight)
        # a mask of ones at one position finds the squared error there
        * sum(
            float(mask[0, row, column])
            * float(
                objective.loss(
                    *(each[[index]] for each in (predicted, samples, noise, timesteps)),
                    Emphasis(_only(row, column)),
                )
            )
            for row in range(4)
            for column in range(4)
        )
        for index, (mask, weight) in enumerate(zip(masks, weights, strict=True))
    ]
    assert float(found) == pytest.approx(sum(alone) / 4, rel=1e-5)
    whole = objective.loss(
        predicted, samples, noise, timesteps, Emphasis(torch.ones_like(masks), torch.ones(4))
    )
    assert torch.equal(whole, objective.loss(predicted, samples, noise, timesteps))


def _only(row: int, column: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, row, column] = 1
    return mask


def test_a_mask_is_scaled_cropped_and_mirrored_as_its_image(tmp_path):
    picture(tmp_path / "a.png", 0, (40, 24))
    Image.open(tmp_path / "a.png").convert("L").convert("RGB").save(tmp_path / "b.png")
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.mask.png").write_bytes((tmp_path / "b.png").read_bytes())
    found = scan_dataset(tmp_path, NONE, with_masks=True)
    options = Options(steps=1, random_crop=True, flip=True, masked_loss=True)
    examples = Examples(
        found.samples, options, InputSpec(16, 1, (4, 8, 8), True, range(10)), None, None, None
    )

    for position in range(6):
        batch = examples[position]
        seen = torch.nn.functional.avg_pool2d((batch.images + 1) / 2, 2)
        torch.testing.assert_close(batch.masks, seen)


def test_images_without_a_mask_count_whole_and_are_told(data):
    found = scan_dataset(data, NONE, with_masks=True)
    examples = Examples(
        found.samples,
        Options(steps=1, masked_loss=True),
        InputSpec(8, 3, (3, 8, 8), False, range(10)),
        None,
        None,
        None,
    )

    assert [each.name for each in found.samples] == ["0.png", "1.png", "2.png"]
    assert found.notices == (
        "2 images used as masks: 0.mask.png, 1.mask.png",
        "1 image without a mask, used whole: 2.png",
    )
    assert found.digest == scan_dataset(data, NONE).digest
    whole = [bool((examples[position].masks == 1).all()) for position in range(3)]
    assert sorted(whole) == [False, False, True]


def test_masks_that_do_not_fit_are_bad_images(data):
    picture(data / "1.mask.png", 0, (9, 8))
    (data / "0.mask.png").write_bytes(b"x")

    with pytest.raises(InputError) as refused:
        scan_dataset(data, NONE, with_masks=True)

    assert "1 image with a mask of another size: 1.png" in refused.value.message()
    assert "1 image unreadable: 0.mask.png" in refused.value.message()


def test_a_folder_without_masks_is_refused_for_a_masked_loss(other):
    with pytest.raises(InputError, match="has no masks, such as"):
        scan_dataset(other, NONE, with_masks=True)


def loss_by_hand(base: Path, data: Path, other: Path, weight: float) -> tuple[float, float]:
    """The loss of the first step, and its gradient's norm, in plain torch."""
    net = UNet2DModel.from_pretrained(base / "unet").eval()
    bars = DDPMScheduler.from_pretrained(base / "scheduler").alphas_cumprod

    def mean(folder: Path, seed: int, *, with_masks: bool) -> torch.Tensor:
        samples = scan_dataset(folder, NONE, with_masks=with_masks).samples
        errors = []
        for position in range(2):
            sample = samples[rng.sample_index(seed, position, len(samples))]
            pixels = torch.from_numpy(read_pixels(sample, 8, 3, (0.5, 0.5)))
            noise = torch.from_numpy(rng.normal((3, 8, 8), seed, "noise", position))
            timestep = torch.tensor([rng.integer(len(bars), seed, "timestep", position)])
            bar = bars[timestep]
            noisy = bar.sqrt() * pixels + (1 - bar).sqrt() * noise
            square = (net(noisy[None], timestep).sample[0] - noise).square()
            if with_masks and sample.mask is not None:
                mask = np.asarray(Image.open(sample.mask.path).convert("L"), np.float32) / 255
                square = square * torch.from_numpy(mask)
            errors.append(square.mean())
        return torch.stack(errors).mean()

    loss = mean(data, 3, with_masks=True) + weight * mean(other, 3 ^ OTHER_SEED, with_masks=False)
    gradient = torch.autograd.grad(loss, list(net.parameters()))
    norm = torch.sqrt(sum(each.double().square().sum() for each in gradient))
    return float(loss.detach()), float(norm)


@pytest.fixture
def run(bases, running, data, other, tmp_path):
    """Trains with masks and regularization images for so many steps, into a folder."""

    def train(steps: int, name: str = "run", **more: object) -> Path:
        given = {"masked_loss": True, "regularization": str(other), "regularization_weight": 0.25}
        running.run(
            bases["plain"],
            data,
            tmp_path / name,
            running.ReporterSpy(),
            **{"steps": steps, "seed": 3, "max_grad_norm": 1e9, **given, **more},
        )
        return tmp_path / name

    return train


def test_a_step_is_that_of_a_loop_by_hand_and_resumes_to_the_bit(run, bases, data, other):
    run(1)
    resumed, whole = run(2), run(2, "whole")

    first = json.loads((resumed / "metrics.jsonl").read_text().splitlines()[0])
    loss, norm = loss_by_hand(bases["plain"], data, other, 0.25)
    assert (first["loss"], first["grad_norm"]) == pytest.approx((loss, norm), rel=1e-5)
    weights = [
        file_digest(each / "raw/unet/diffusion_pytorch_model.safetensors")
        for each in (resumed, whole)
    ]
    assert weights[0] == weights[1]


def test_every_image_is_recorded_and_another_mask_or_image_is_another_run(run, data, other):
    out = run(1)

    listed = {each.name: each.digest for each in read_data_record(out / "data.jsonl")}
    assert list(listed) == ["0.png", "1.png", "2.png"] + [f"regularization/{n}.png" for n in "01"]
    assert listed["regularization/0.png"] == file_digest(other / "0.png")
    record = json.loads((out / "soupctl.json").read_text())
    assert (record["data"]["images"], record["regularization"]["images"]) == (3, 2)

    (data / "0.mask.png").write_bytes((data / "1.mask.png").read_bytes())
    with pytest.raises(OutputError, match="masks"):
        run(1)
    picture(other / "1.png", 99)
    with pytest.raises(OutputError, match=r"changed: regularization/1\.png"):
        run(1)


def test_batches_of_several_sizes_have_no_regularization_images():
    with pytest.raises(UsageError, match="buckets and regularization exclude each other"):
        Options(steps=1, buckets=True, regularization="x")
