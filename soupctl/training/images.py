"""All images of a run: those it trains on, for the validation loss, and for regularization.

Rule 1: the digest of a run's data covers every image that is trained on. Regularization images are
named as if they were in a folder of that name.
"""

from __future__ import annotations

from typing import NamedTuple

from ..ledger.data_shard import ImageRecord
from .dataset import Dataset

REGULARIZATION = "regularization"


class Images(NamedTuple):
    """The datasets of a run."""

    dataset: Dataset
    validation: Dataset | None = None
    regularization: Dataset | None = None


def recorded_images(dataset: Dataset, regularization: Dataset | None) -> tuple[ImageRecord, ...]:
    """The images that are trained on, as records."""
    own = [(each.name, each) for each in dataset.samples]
    if regularization is not None:
        own += [(f"{REGULARIZATION}/{each.name}", each) for each in regularization.samples]
    return tuple(ImageRecord(name, each.digest, each.captions, each.label) for name, each in own)
