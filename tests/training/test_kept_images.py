"""Small images are decoded once, and train to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from soupctl.diffusion.base import Conditioning
from soupctl.training import kept_images
from soupctl.training.dataset import scan_dataset
from soupctl.training.kept_images import KeptImages
from soupctl.training.loader import Examples, InputSpec
from soupctl.training.options import Options

SIZE = (4, 4)


@pytest.fixture
def samples(tmp_path):
    random = np.random.default_rng(1)
    for name in "abc":
        Image.fromarray(random.integers(256, size=(6, 5, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    return scan_dataset(tmp_path, Conditioning.NONE).samples


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that are decoded."""
    names, read = [], kept_images.read_pixels
    monkeypatch.setattr(
        kept_images,
        "read_pixels",
        lambda sample, *rest: names.append(sample.name) or read(sample, *rest),
    )
    return names


def test_an_image_is_decoded_once_as_long_as_all_fit(samples, decoded):
    kept = KeptImages(most=2 * 3 * 16 * 4)

    first = [kept.read(each, SIZE, 3) for each in samples]
    second = [kept.read(each, SIZE, 3) for each in samples]

    assert ["a.png", "b.png", "c.png", "c.png"] == decoded
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("crop", [False, True])
def test_examples_are_those_of_images_that_are_read_each_time(samples, decoded, crop, monkeypatch):
    spec = InputSpec(4, 3, (3, 4, 4), False, range(1000))
    options = Options(flip=True, random_crop=crop, seed=3)

    def images():
        examples = Examples(samples, options, spec, None, None, None)
        return [examples[position].images for position in range(12)]

    with_memory, count = images(), len(decoded)
    monkeypatch.setattr("soupctl.training.loader.KeptImages", lambda: KeptImages(most=0))
    without = images()

    assert count == (0 if crop else 3)
    assert all(one.equal(other) for one, other in zip(with_memory, without, strict=True))
