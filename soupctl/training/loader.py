"""What one visit of a sample teaches: its image or latents, its noise, what the denoiser is told.

Rule 1: an example is a function of the seed and the number of the visit, so that it does not matter
which process, worker or run makes it.
Rule 2: the cache keeps mean and log variance of the latents of an image and of its mirror image, so
that every visit still draws its own latents.
Rule 3: a cached file is named by all that it depends on: image, autoencoder, resolution; so a file
that is there is right, whichever run wrote it.
"""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from PIL import Image

from ..checkpoints.digest import PREFIX, text_digest
from ..diffusion import rng
from ..errors import InputError
from ..storage.atomic import publish_bytes
from .dataset import Sample, bytes_of, decoding, plain
from .options import Options


@dataclass(frozen=True, slots=True)
class Frame:
    """How images become what the denoiser takes."""

    resolution: int
    """Height and width in pixels."""
    pixel_channels: int
    shape: tuple[int, int, int]
    """Of what is denoised: channels, height, width."""
    has_vae: bool
    timesteps: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples together, on the CPU."""

    images: torch.Tensor
    """Pixels in [-1, 1], or, from a cache, moments of latents; [B, ...]."""
    noise: torch.Tensor
    latent_noise: torch.Tensor | None
    """What latents are drawn with; None for a model of pixels."""
    timesteps: torch.Tensor
    captions: tuple[str, ...]
    labels: torch.Tensor | None
    visits: tuple[int, ...]
    """Their numbers, for whatever else is drawn."""


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


class Examples(torch.utils.data.Dataset[Any]):
    """The examples of a run by the number of the visit."""

    def __init__(
        self,
        samples: Sequence[Sample],
        options: Options,
        frame: Frame,
        labels: Sequence[int] | None,
        null: int | None,
        cache: LatentCache | None,
    ) -> None:
        self._samples = samples
        self._options = options
        self._frame = frame
        self._labels = labels
        self._null = null
        self._cache = cache

    def __getitem__(self, visit: int) -> Batch:
        """The example of that visit, as a batch of one."""
        options, frame = self._options, self._frame
        seed = options.seed
        index = rng.sample_index(seed, visit, len(self._samples))
        sample = self._samples[index]
        noise = rng.normal(frame.shape, seed, "noise", visit)
        if options.noise_offset:
            offset = rng.normal((frame.shape[0], 1, 1), seed, "noise offset", visit)
            noise = noise + np.float32(options.noise_offset) * offset
        latent_noise = rng.normal(frame.shape, seed, "latent", visit) if frame.has_vae else None
        dropped = rng.uniform(seed, "drop", visit) < options.cond_drop
        return Batch(
            images=self._image(sample, visit),
            noise=torch.from_numpy(noise)[None],
            latent_noise=None if latent_noise is None else torch.from_numpy(latent_noise)[None],
            timesteps=torch.tensor([rng.whole(frame.timesteps, seed, "timestep", visit)]),
            captions=("" if dropped else self._caption(sample, visit),),
            labels=self._label(index, dropped),
            visits=(visit,),
        )

    def _image(self, sample: Sample, visit: int) -> torch.Tensor:
        options, seed = self._options, self._options.seed
        flipped = options.flip and rng.uniform(seed, "flip", visit) < 0.5
        if self._cache is not None:
            return self._cache.moments(sample, flipped=flipped)[None]
        crop = (0.5, 0.5)
        if options.random_crop:
            crop = (rng.uniform(seed, "left", visit), rng.uniform(seed, "top", visit))
        pixels = read_pixels(sample, self._frame.resolution, self._frame.pixel_channels, crop)
        return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1]) if flipped else pixels)[
            None
        ]

    def _caption(self, sample: Sample, visit: int) -> str:
        if len(sample.captions) < 2:
            return sample.captions[0] if sample.captions else ""
        return sample.captions[
            rng.whole(len(sample.captions), self._options.seed, "caption", visit)
        ]

    def _label(self, index: int, dropped: bool) -> torch.Tensor | None:
        if self._labels is None:
            return None
        return torch.tensor(
            [self._null if dropped and self._null is not None else self._labels[index]]
        )


def collate(examples: Sequence[Batch]) -> Batch:
    """Examples as one batch."""
    drawn = [each.latent_noise for each in examples if each.latent_noise is not None]
    labels = [each.labels for each in examples if each.labels is not None]
    return Batch(
        images=torch.cat([each.images for each in examples]),
        noise=torch.cat([each.noise for each in examples]),
        latent_noise=torch.cat(drawn) if drawn else None,
        timesteps=torch.cat([each.timesteps for each in examples]),
        captions=tuple(caption for each in examples for caption in each.captions),
        labels=torch.cat(labels) if labels else None,
        visits=tuple(visit for each in examples for visit in each.visits),
    )


def read_pixels(
    sample: Sample, resolution: int, channels: int, crop: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """An image as [channels, resolution, resolution] in [-1, 1].

    It is scaled so that its shorter side fits, and `crop` says which part of the longer is taken,
    from 0 to 1. Raises InputError if it cannot be decoded, OutputError if it changed meanwhile.
    """
    data = bytes_of(sample)
    with decoding(sample.path), Image.open(io.BytesIO(data)) as image:
        whole = plain(image, channels)
    scale = resolution / min(whole.size)
    width, height = (max(resolution, round(side * scale)) for side in whole.size)
    if whole.size != (width, height):
        whole = whole.resize((width, height), Image.Resampling.LANCZOS)
    left, top = round((width - resolution) * crop[0]), round((height - resolution) * crop[1])
    part = whole.crop((left, top, left + resolution, top + resolution))
    values = np.asarray(part, np.float32).reshape(resolution, resolution, channels)
    return np.ascontiguousarray(values.transpose(2, 0, 1)) / np.float32(127.5) - np.float32(1)


@dataclass(frozen=True, slots=True)
class BatchSampler:
    """Which visits a process makes, micro-batch by micro-batch, from a step on."""

    first_step: int
    last_step: int
    grad_accum: int
    batch_size: int
    processes: int
    process: int

    def __iter__(self) -> Iterator[list[int]]:
        """The visits of each micro-batch."""
        for micro in range(self.first_step * self.grad_accum, self.last_step * self.grad_accum):
            start = (micro * self.processes + self.process) * self.batch_size
            yield list(range(start, start + self.batch_size))

    def __len__(self) -> int:
        """How many micro-batches there are."""
        return (self.last_step - self.first_step) * self.grad_accum


def batches(examples: Examples, visits: BatchSampler, workers: int) -> Iterator[Batch]:
    """The batches of those visits, made by so many worker processes ahead of their use."""
    loader = torch.utils.data.DataLoader(
        examples,
        batch_sampler=visits,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_run if workers else None,
    )
    return iter(loader)


def _leave_signals_to_the_run(_worker: int) -> None:
    """Let the process that trains decide what Ctrl-C means: it still needs its batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
