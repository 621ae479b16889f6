"""Images that are held out of training, for the validation loss.

Rule 1: which images are held out depends on their bytes alone; equal files are never divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from blake3 import blake3

from ..errors import InputError
from ..ledger.data_shard import data_digest
from .dataset import Dataset
from .notices import count_text, first_names


def hold_out(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """The images to train on, and the `share` of them that is held out.

    At least one image is held out. Raises InputError if none is left to train on.
    """
    ranked = sorted(dataset.samples, key=lambda each: blake3(each.digest.encode()).digest())
    count = max(1, round(share * len(ranked)))
    held = {each.digest for each in ranked[:count]}
    parts = [
        [each for each in dataset.samples if (each.digest in held) is is_held]
        for is_held in (False, True)
    ]
    if not parts[0]:
        images = count_text(len(ranked), "image")
        what = f"has {images}, of which none would be left to train on"
        raise InputError(what, path=dataset.folder, advice="set a smaller --validate-share")
    # the validation loss counts each image alike
    parts[1] = [replace(each, repeats=1) for each in parts[1]]
    trained, validated = (
        replace(dataset, samples=tuple(part), digest=data_digest(part)) for part in parts
    )
    return trained, replace(validated, notices=())


def common_images(dataset: Dataset, validation: Dataset) -> Iterator[str]:
    """A remark about images that are both trained on and used for validation."""
    trained = {each.digest for each in dataset.samples}
    if both := [each.name for each in validation.samples if each.digest in trained]:
        images = count_text(len(both), "validation image")
        yield f"{images} also trained on: {first_names(both)}"
