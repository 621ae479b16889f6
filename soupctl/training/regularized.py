"""Batches in which each image is followed by a regularization image, whose loss is weighted.

Rule 1: regularization images are drawn from another seed, so that noise, timesteps and order are
not those of the images.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .loader import Batch, Examples, collate

OTHER_SEED = 1 << 63
"""The bit of the seed that is changed for regularization images."""


class _WithRegularization(Examples):
    """Examples that are each followed by one of a regularization image."""

    def __init__(self, images: Examples, prior: Examples, weight: float) -> None:
        self._pair = images, prior
        # the mean over both is the mean over images plus `weight` times that over the others
        self._weights = torch.tensor([2.0, 2.0 * weight])
        self.order = images.order

    def __getitem__(self, position: int) -> Batch:
        """The two examples at a position, as a batch of two."""
        image, other = (each[position] for each in self._pair)
        if image.masks is not None:
            other = replace(other, masks=torch.ones_like(image.masks))
        return replace(collate([image, other]), weights=self._weights)


def with_regularization(images: Examples, prior: Examples, weight: float) -> Examples:
    """Examples of images, each with one of a regularization image.

    The loss is the mean over images plus `weight` times the mean over regularization images, the
    prior-preservation loss of DreamBooth (Ruiz et al. 2022, arXiv 2208.12242, equation 2).
    """
    return _WithRegularization(images, prior, weight)
