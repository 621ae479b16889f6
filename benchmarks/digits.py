"""Handwritten digits as folders of images, in three parts, and small DiTs of pixels for them.

Rule 1: the parts are the same for every seed: what differs between seeds is training, not data.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiTTransformer2DModel
from PIL import Image

CLASSES = 10
SIDE = 8
"""The side of an image, in pixels."""
GREYEST = 16
"""The largest value of a pixel in scikit-learn's digits."""
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images and what they show."""

    images: npt.NDArray[np.uint8]
    """[count, 8, 8]."""
    labels: npt.NDArray[np.int64]
    """[count]."""


def digits(counts: Sequence[int]) -> dict[str, LabelledImages]:
    """Some of the 1797 digits of scikit-learn, shuffled once and for all: so many of each part."""
    from sklearn.datasets import load_digits  # noqa: PLC0415

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images = (found.images[order] * (255 / GREYEST)).round().astype(np.uint8)
    labels = found.target[order].astype(np.int64)
    ends = np.cumsum(counts).tolist()
    spans = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    return {
        name: LabelledImages(images[span], labels[span])
        for name, span in zip(PARTS, spans, strict=True)
    }


def write_images(part: LabelledImages, folder: Path) -> Path:
    """A data shard: a folder for each digit, whole or not there at all."""
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for label in range(CLASSES):
            (partial / str(label)).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            Image.fromarray(image).save(partial / str(label) / f"{number:04}.png")
        partial.rename(folder)
    return folder


def write_new_base(shape: Mapping[str, int], seed: int, folder: Path) -> Path:
    """A DiT of pixels whose weights are drawn from the seed; `shape` says how large it is."""
    torch.manual_seed(seed)
    model = DiTTransformer2DModel(
        in_channels=1, out_channels=1, sample_size=SIDE, num_embeds_ada_norm=CLASSES, **shape
    )
    model.save_pretrained(folder)
    return folder


def load_base(folder: Path) -> DiTTransformer2DModel:
    """The DiT in a folder, for evaluation."""
    return DiTTransformer2DModel.from_pretrained(folder, local_files_only=True).eval()
