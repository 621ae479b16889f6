"""What models are judged by: held-out denoising losses, and what a classifier says of samples.

Rule 1: two models are compared on the same images, timesteps and noise, and on samples from the
same noise.
Rule 2: the classifier is trained here, from a seed, on images that no model is trained on. Its
Frechet distance is not FID, and is reported with its floor: that of other images of the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional

from replication.shapes import Pictures

QUARTERS = 4
AT_ONCE = 512
FEATURES = 24

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The prediction of the noise, of noisy images, timesteps and labels."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Images with fixed timesteps and noise; each image has `draws` rows in each quarter."""

    samples: Tensor
    labels: Tensor
    timesteps: Tensor
    noise: Tensor
    draws: int


def pixels_of(images: np.ndarray) -> Tensor:
    """Images [N, H, W, C] of bytes as [N, C, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def probe(pictures: Pictures, draws: int, seed: int) -> Probe:
    """The same rows whenever they are asked for."""
    random = torch.Generator().manual_seed(seed)
    each = QUARTERS * draws
    samples = pixels_of(pictures.images).repeat_interleave(each, dim=0)
    quarters = torch.arange(QUARTERS).repeat_interleave(draws).repeat(len(pictures))
    return Probe(
        samples,
        torch.from_numpy(pictures.labels).repeat_interleave(each),
        quarters * 250 + torch.randint(250, quarters.shape, generator=random),
        torch.randn(samples.shape, generator=random),
        draws,
    )


def predictor(model: Any) -> Predict:
    """How a DiT predicts."""
    return lambda noisy, times, labels: model(noisy, timestep=times, class_labels=labels).sample


def ensemble(models: list[Any]) -> Predict:
    """The mean of what several DiTs predict."""
    single = [predictor(each) for each in models]
    return lambda *given: torch.stack([each(*given) for each in single]).mean(dim=0)


@torch.inference_mode()
def predictions(predict: Predict, asked: Probe) -> Tensor:
    """The predicted noise of each row."""
    scheduler, found = DDPMScheduler(), []
    for start in range(0, len(asked.samples), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        noisy = scheduler.add_noise(asked.samples[rows], asked.noise[rows], asked.timesteps[rows])
        found.append(predict(noisy, asked.timesteps[rows], asked.labels[rows]))
    return torch.cat(found)


def losses(predict: Predict, asked: Probe, groups: np.ndarray) -> dict[str, Any]:
    """The mean squared error: of all rows, by quarter of the timesteps, and by group of images."""
    errors = (predictions(predict, asked) - asked.noise).double().square().mean(dim=(1, 2, 3))
    table = errors.reshape(-1, QUARTERS, asked.draws).numpy()
    by_image = table.mean(axis=(1, 2))
    return {
        "loss": float(by_image.mean()),
        # the low noise first
        "quarters": table.mean(axis=(0, 2)).tolist(),
        "groups": [float(by_image[groups == each].mean()) for each in range(groups.max() + 1)],
    }


class Classifier(nn.Module):
    """Reads the attributes of an image, each by a head of its own."""

    def __init__(self, channels: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, FEATURES),
        )
        self.heads = nn.ModuleList([nn.Linear(FEATURES, size) for size in sizes])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of each attribute."""
        features = functional.relu(self.body(images))
        return [head(features) for head in self.heads]


def train_classifier(
    pictures: Pictures, answers: np.ndarray, sizes: tuple[int, ...], steps: int, file: Path
) -> None:
    """Train a classifier of images with these answers [N, attributes]."""
    random = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(pictures.images.shape[-1], sizes)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    images, told = pixels_of(pictures.images), torch.from_numpy(answers)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,), generator=random)
        grain = 0.1 * torch.randn(images[rows].shape, generator=random)
        logits = model(images[rows] + grain)
        loss = sum(functional.cross_entropy(each, told[rows, n]) for n, each in enumerate(logits))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), file)


def read_classifier(pictures: Pictures, sizes: tuple[int, ...], file: Path) -> Classifier:
    """The classifier of such images that was trained into a file."""
    model = Classifier(pictures.images.shape[-1], sizes)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


@torch.inference_mode()
def answers_of(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """What the classifier reads, [N, attributes]."""
    return torch.stack([each.argmax(1) for each in classifier(pixels_of(images))], 1).numpy()


@torch.inference_mode()
def features_of(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """What the heads see, [N, 24]."""
    return classifier.body(pixels_of(images)).double().numpy()


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The Frechet distance of normal distributions with the features' means and covariances."""
    shift = one.mean(0) - other.mean(0)
    first, second = np.cov(one.T), np.cov(other.T)
    roots = np.linalg.eigvals(first @ second).real.clip(0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * np.sqrt(roots).sum())


def nearest(samples: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The root mean squared difference of each sample to the nearest item, in grey levels."""
    one = samples.reshape(len(samples), 1, -1).astype(np.float64)
    other = items.reshape(1, len(items), -1).astype(np.float64)
    return np.sqrt(np.square(one - other).mean(axis=2)).min(axis=1)
