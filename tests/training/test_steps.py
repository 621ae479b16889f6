"""The learning-rate schedule, and the EMA."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from soupctl.choices import Schedule
from soupctl.training.loop import learning_rate
from soupctl.training.options import Options


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule.CONSTANT, [0.5, 1, 1, 1, 1, 1]),
        (Schedule.LINEAR, [0.5, 1, 1, 0.75, 0.5, 0.25]),
        (Schedule.COSINE, [0.5, 1, 1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5]),
    ],
)
def test_the_learning_rate_warms_up_and_then_follows_its_schedule(schedule, expected):
    options = Options(lr=1.0, lr_schedule=schedule, warmup=2)

    assert [learning_rate(step, options, 6) for step in range(6)] == pytest.approx(expected)


def test_a_schedule_without_warmup_starts_with_the_given_learning_rate():
    for schedule in Schedule:
        assert learning_rate(0, Options(lr=0.25, lr_schedule=schedule), 1) == 0.25


def test_the_ema_is_updated_at_each_step_with_a_growing_decay(trained, tmp_path):
    trained("plain", tmp_path / "run", steps=5, save_every=1, ema_decay=0.3, keep=5)
    folders = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    mean = load_file(folders[0] / "model.safetensors")
    for count, folder in enumerate(folders[1:], 1):
        decay = min(0.3, (1 + count) / (10 + count))
        for name, value in load_file(folder / "model.safetensors").items():
            mean[name] = decay * mean[name] + (1 - decay) * value

    found = load_file(folders[-1] / "ema.safetensors")
    published = load_file(
        tmp_path / "run" / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    )

    assert len(folders) == 5
    assert all(torch.equal(found[name], published[name]) for name in found)
    for name, value in found.items():
        torch.testing.assert_close(mean[name], value, rtol=1e-5, atol=1e-7)
