"""Latents of a data shard, encoded once and kept on disk.

Rule 1: what is kept is mean and log variance, of the image and of its mirror image, so that every
visit still draws its own latents.
Rule 2: a file is named by all that it depends on: image, autoencoder, resolution; so a file that is
there is right, whichever run wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from ..checkpoints.digest import PREFIX, text_digest
from ..errors import InputError
from ..storage.atomic import publish_bytes
from .dataset import Sample


@dataclass(frozen=True, slots=True)
class LatentCache:
    """The latents in a folder."""

    folder: Path
    vae_digest: str
    resolution: int

    def path_of(self, sample: Sample) -> Path:
        """The file for a sample."""
        key = text_digest(f"{sample.digest} {self.vae_digest} {self.resolution}")
        return self.folder / f"{key.removeprefix(PREFIX)[:32]}.safetensors"

    def moments(self, sample: Sample, *, flipped: bool) -> torch.Tensor:
        """Mean and log variance of a sample's latents, [2 C, H, W]; InputError if unreadable."""
        path = self.path_of(sample)
        try:
            return safetensors.torch.load_file(path)["flipped" if flipped else "plain"]
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            advice = "without this file, it is encoded anew"
            raise InputError(f"cannot be read: {error}", path=path, advice=advice) from None

    def missing(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that have no file yet."""
        return [sample for sample in samples if not self.path_of(sample).is_file()]

    def keep(self, sample: Sample, plain: torch.Tensor, flipped: torch.Tensor) -> None:
        """Write the file of a sample."""
        tensors = {"plain": plain.contiguous(), "flipped": flipped.contiguous()}
        publish_bytes(self.path_of(sample), safetensors.torch.save(tensors), replace=True)
