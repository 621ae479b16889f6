"""The study of held-out losses: what it measures, and that it can be made, and gone on with."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from math import gamma, pi, sqrt
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import denoising  # noqa: E402
import held_out  # noqa: E402
from digits import CLASSES, PARTS, LabelledImages, digits  # noqa: E402

CHOSEN = "finetune", "patch-dmp, uniform gate"
"""The arms that differ most in how they are trained."""


@pytest.fixture
def part():
    images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    return LabelledImages(images, np.array([4, 0, 7]))


@pytest.fixture
def fake_digits(monkeypatch):
    """As many digits as scikit-learn has, of its type and range, which show nothing."""
    random = np.random.default_rng(3)
    found = SimpleNamespace(
        images=random.integers(0, 17, (1797, 8, 8)).astype(np.float64),
        target=np.arange(1797) % CLASSES,
    )
    fake = SimpleNamespace(load_digits=lambda: found)
    monkeypatch.setitem(sys.modules, "sklearn", SimpleNamespace(datasets=fake))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fake)


def test_no_digit_is_in_two_parts(fake_digits):
    found = digits((160, 437, 1200))

    assert list(PARTS) == list(found)
    images = [image.tobytes() for part in found.values() for image in part.images]
    assert 1797 == len(set(images)) == sum(len(part.labels) for part in found.values())


@pytest.mark.parametrize("freedom", range(1, 10))
def test_the_quantiles_leave_2_5_per_cent_of_students_t_above(freedom):
    scale = gamma((freedom + 1) / 2) / (sqrt(freedom * pi) * gamma(freedom / 2))
    edge = denoising.QUANTILES[freedom - 1]
    places = np.linspace(0, edge, 100_001)
    density = scale * (1 + places**2 / freedom) ** (-(freedom + 1) / 2)
    between = float(((density[1:] + density[:-1]) / 2 * np.diff(places)).sum())

    assert pytest.approx(0.475, abs=2e-5) == between


def test_an_interval_is_the_mean_with_students_t_on_either_side():
    found = denoising.interval([1.0, 2.0, 3.0])

    assert 2 == found["mean"]
    assert pytest.approx(4.303 / sqrt(3)) == found["high"] - 2 == pytest.approx(2 - found["low"])


def test_each_image_has_equally_many_triples_in_each_quarter_and_the_same_ones_each_time(part):
    first, again, other = (denoising.draw_triples(part, 5, seed) for seed in (1, 1, 2))

    quarters = (first.timesteps // 250).reshape(3, 4, 5)
    assert torch.equal(torch.arange(4)[None, :, None].expand(3, 4, 5), quarters)
    assert [4] * 20 + [0] * 20 + [7] * 20 == first.labels.tolist()
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.timesteps, again.timesteps)
    assert not torch.equal(first.timesteps, other.timesteps)
    pixels = torch.from_numpy(part.images[1].astype(np.float32)) / 127.5 - 1
    assert torch.equal(pixels.expand(20, 1, 8, 8), first.samples[20:40])


def test_losses_are_of_the_noise_by_image_quarter_and_draw(part, monkeypatch):
    # so that one forward pass ends within an image
    monkeypatch.setattr(denoising, "AT_ONCE", 7)
    triples = denoising.draw_triples(part, 2, 1)
    guess = lambda noisy, timestep, class_labels: SimpleNamespace(  # noqa: E731
        sample=torch.ones_like(noisy) * class_labels[:, None, None, None]
    )

    found = denoising.losses(guess, triples)

    assert (3, 4, 2) == found.shape
    row = triples.noise[1 * 8 + 3 * 2 + 1].double()
    assert pytest.approx(float(row.square().mean())) == found[1, 3, 1]
    assert pytest.approx(float((triples.noise[0].double() - 4).square().mean())) == found[0, 0, 0]


def test_a_difference_is_in_per_cent_and_paired():
    """Two images, each with two draws in each quarter; the base's losses differ widely."""
    base = np.array([[[1.0, 3.0]] * 4, [[5.0, 7.0]] * 4])
    change = np.zeros_like(base)
    change[:, 0] = 0.4
    change[1, 3] = [0.2, 0.6]

    found = denoising.compared(base + change, base)

    assert pytest.approx(100 * (0.2 + 0.2) / 4 / 4 * 1.5) == found["percent"]
    assert [10, 0, 0, 5] == pytest.approx(found["quarters"])
    # one cell of eight varies: by 0.08 over two draws
    assert pytest.approx(100 / 4 * sqrt(0.08 / 2) / 8) == found["error_draws"]
    # the means of the two images are 0.1 and 0.2
    assert pytest.approx(100 / 4 * 0.05) == found["error_images"]


@pytest.mark.parametrize(
    ("curve", "flat"),
    [
        ([], False),
        ([3.0, 2.0], False),
        ([3.0, 2.0, 1.0], False),
        ([1.0, 1.1, 0.9], False),
        ([1.0, 1.1, 0.999], True),
        ([1.0, 2.0, 3.0], True),
    ],
)
def test_a_loss_is_flat_when_the_last_ones_are_no_progress(curve, flat):
    assert flat == held_out.is_flat(curve, 2)


def test_a_study_is_made_and_gone_on_with(fake_digits, tmp_path, monkeypatch, capsys):
    every = held_out.ARMS
    few = {name: replace(every[name], rates=every[name].rates[-1:]) for name in CHOSEN}
    monkeypatch.setattr(held_out, "ARMS", few)
    results, told = (tmp_path / "first.json", tmp_path / "second.json"), []

    for result in results:
        words = ["--quick", "--seeds", "2", "--folder", str(tmp_path / "study")]
        assert 0 == held_out.main([*words, "-o", str(result)])
        told.append(capsys.readouterr().out)

    assert results[0].read_bytes() == results[1].read_bytes()
    study = json.loads(results[0].read_text())["studies"]["quick"]
    assert list(few) == list(study["summary"])
    assert all(arm["test"]["percent"] for row in study["seeds"] for arm in row["arms"].values())
    assert str(tmp_path) not in results[0].read_text()
    assert "base, 2 steps" in told[0]
    assert "base, " not in told[1]


def test_a_folder_of_another_study_is_refused(fake_digits, tmp_path, capsys):
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "settings.json").write_text("{}")

    assert 1 == held_out.main(["--quick", "--folder", str(tmp_path)])
    assert "has a study with other settings" in capsys.readouterr().err
