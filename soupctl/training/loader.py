"""Training examples and their batches: images or latents, noise, timesteps, captions and labels.

Rule 1: an example is a function of the seed and of its position, its number in the run counted
through all epochs; so it does not matter which process, worker or start of the run makes it.
Rule 2: the cache keeps mean and log variance of the latents of an image and of its mirror image, so
that latents are still sampled anew for each position.
Rule 3: the name of a cached file covers all that it depends on: image, autoencoder and resolution;
so a file that exists is right, whichever run wrote it.
"""

from __future__ import annotations

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
from ..images.decode import decode_image, one_large_file
from ..storage.atomic import publish_bytes
from .dataset import Sample, read_unchanged
from .options import Options

MOST_SCALED = 1 << 25
"""Pixels of a scaled image beyond which only the part that is used is scaled."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The shape of the denoiser's input, and of the images that it is made from."""

    resolution: int
    """Height and width in pixels."""
    pixel_channels: int
    shape: tuple[int, int, int]
    """Channels, height and width of the denoiser's input: latents, or pixels without a vae."""
    has_vae: bool
    timesteps: range
    """The timesteps to train on."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples of one forward pass, on the CPU; B examples."""

    images: torch.Tensor
    """Pixels in [-1, 1], [B, C, H, W], or from a cache the moments of latents, [B, 2 C, H, W]."""
    noise: torch.Tensor
    latent_noise: torch.Tensor | None
    """Noise that latents are sampled with; None for a model of pixels."""
    timesteps: torch.Tensor
    captions: tuple[str, ...]
    labels: torch.Tensor | None
    positions: tuple[int, ...]
    """Positions of the examples, which seed all other randomness."""
    frames: torch.Tensor
    """What each image shows of its original; see `Frame`, [B, 6]."""


@dataclass(frozen=True, slots=True)
class LatentCache:
    """The cached latents of a run, one safetensors file for each image."""

    folder: Path
    vae_digest: str
    resolution: int

    def path_of(self, sample: Sample) -> Path:
        """The cache file of a sample."""
        key = text_digest(f"{sample.digest} {self.vae_digest} {self.resolution}")
        return self.folder / f"{key.removeprefix(PREFIX)[:32]}.safetensors"

    def moments(self, sample: Sample, *, flipped: bool) -> torch.Tensor:
        """Mean and log variance of a sample's latents, [2 C, H, W]; InputError if unreadable."""
        path = self.path_of(sample)
        try:
            return safetensors.torch.load_file(path)["flipped" if flipped else "plain"]
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            advice = "delete the file to encode the image again"
            raise InputError(f"cannot be read: {error}", path=path, advice=advice) from None

    def missing(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples without a cache file."""
        return [sample for sample in samples if not self.path_of(sample).is_file()]

    def write(self, sample: Sample, plain: torch.Tensor, flipped: torch.Tensor) -> None:
        """Write the cache file of a sample: its moments, and those of its mirror image."""
        tensors = {"plain": plain.contiguous(), "flipped": flipped.contiguous()}
        publish_bytes(self.path_of(sample), safetensors.torch.save(tensors), replace=True)


class Examples(torch.utils.data.Dataset[Any]):
    """The examples of a run by position."""

    def __init__(
        self,
        samples: Sequence[Sample],
        options: Options,
        input_spec: InputSpec,
        labels: Sequence[int] | None,
        null: int | None,
        cache: LatentCache | None,
    ) -> None:
        self._samples = samples
        self._options = options
        self._input_spec = input_spec
        self._labels = labels
        self._null = null
        self._cache = cache

    def __getitem__(self, position: int) -> Batch:
        """The example at a position, as a batch of one."""
        options, input_spec = self._options, self._input_spec
        seed = options.seed
        index = rng.sample_index(seed, position, len(self._samples))
        sample = self._samples[index]
        noise = rng.normal(input_spec.shape, seed, "noise", position)
        if options.noise_offset:
            offset = rng.normal((input_spec.shape[0], 1, 1), seed, "noise offset", position)
            noise = noise + np.float32(options.noise_offset) * offset
        latent_noise = (
            rng.normal(input_spec.shape, seed, "latent", position) if input_spec.has_vae else None
        )
        dropped = rng.uniform(seed, "drop", position) < options.cond_drop
        flipped = options.flip and rng.uniform(seed, "flip", position) < 0.5
        crop = self._crop(position)
        frame = frame_of(sample.size, input_spec.resolution, crop, flipped=flipped)
        return Batch(
            images=self._image(sample, crop, flipped=flipped),
            noise=torch.from_numpy(noise)[None],
            latent_noise=None if latent_noise is None else torch.from_numpy(latent_noise)[None],
            timesteps=torch.tensor([self._timestep(position)]),
            captions=("" if dropped else self._caption(sample, position),),
            labels=self._label(index, dropped),
            positions=(position,),
            frames=torch.tensor([frame]),
        )

    def _timestep(self, position: int) -> int:
        choices = self._input_spec.timesteps
        return choices[rng.integer(len(choices), self._options.seed, "timestep", position)]

    def _crop(self, position: int) -> tuple[float, float]:
        """The position of the crop, from 0 (left, top) to 1."""
        if not self._options.random_crop:
            return (0.5, 0.5)
        seed = self._options.seed
        return rng.uniform(seed, "left", position), rng.uniform(seed, "top", position)

    def _image(self, sample: Sample, crop: tuple[float, float], *, flipped: bool) -> torch.Tensor:
        if self._cache is not None:
            return self._cache.moments(sample, flipped=flipped)[None]
        pixels = read_pixels(
            sample, self._input_spec.resolution, self._input_spec.pixel_channels, crop
        )
        return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1]) if flipped else pixels)[
            None
        ]

    def _caption(self, sample: Sample, position: int) -> str:
        if len(sample.captions) < 2:
            return sample.captions[0] if sample.captions else ""
        return sample.captions[
            rng.integer(len(sample.captions), self._options.seed, "caption", position)
        ]

    def _label(self, index: int, dropped: bool) -> torch.Tensor | None:
        if self._labels is None:
            return None
        return torch.tensor(
            [self._null if dropped and self._null is not None else self._labels[index]]
        )


def collate(examples: Sequence[Batch]) -> Batch:
    """One batch of several examples."""
    drawn = [each.latent_noise for each in examples if each.latent_noise is not None]
    labels = [each.labels for each in examples if each.labels is not None]
    return Batch(
        images=torch.cat([each.images for each in examples]),
        noise=torch.cat([each.noise for each in examples]),
        latent_noise=torch.cat(drawn) if drawn else None,
        timesteps=torch.cat([each.timesteps for each in examples]),
        captions=tuple(caption for each in examples for caption in each.captions),
        labels=torch.cat(labels) if labels else None,
        positions=tuple(position for each in examples for position in each.positions),
        frames=torch.cat([each.frames for each in examples]),
    )


def read_pixels(
    sample: Sample, resolution: int, channels: int, crop: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """An image as [channels, resolution, resolution] in [-1, 1].

    It is scaled so that its shorter side fits; `crop` is the position of the crop, from 0 (left,
    top) to 1. Raises InputError if it cannot be decoded, OutputError if it changed since the scan.
    """
    with one_large_file(sample.path):
        whole = decode_image(read_unchanged(sample), sample.path, channels)
    (width, height), (left, top) = _scaled_and_cropped(whole.size, resolution, crop)
    box = (left, top, left + resolution, top + resolution)
    if width * height > MOST_SCALED:
        part = _scaled_part(whole, (width, height), box)
    else:
        if whole.size != (width, height):
            whole = whole.resize((width, height), Image.Resampling.LANCZOS)
        part = whole.crop(box)
    values = np.asarray(part, np.float32).reshape(resolution, resolution, channels)
    return np.ascontiguousarray(values.transpose(2, 0, 1)) / np.float32(127.5) - np.float32(1)


def _scaled_and_cropped(
    size: tuple[int, int], resolution: int, crop: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of an image scaled so that its shorter side fits, and the crop's corner."""
    scale = resolution / min(size)
    width, height = (max(resolution, round(side * scale)) for side in size)
    corner = round((width - resolution) * crop[0]), round((height - resolution) * crop[1])
    return (width, height), corner


def frame_of(
    size: tuple[int, int], resolution: int, crop: tuple[float, float], *, flipped: bool
) -> tuple[float, ...]:
    """What a crop shows of an image of that width and height: the numbers of a `Frame`.

    An image is mirrored before it is cropped, so far as these numbers tell.
    """
    (width, _), (left, top) = _scaled_and_cropped(size, resolution, crop)
    left = width - resolution - left if flipped else left
    return tuple(map(float, (size[1], size[0], top, left, resolution, resolution)))


def _scaled_part(
    whole: Image.Image, scaled: tuple[int, int], box: tuple[int, int, int, int]
) -> Image.Image:
    """The part in `box` of the image scaled to the size `scaled`, without scaling all of it."""
    factors = (whole.width / scaled[0], whole.height / scaled[1])
    left, top = box[0] * factors[0], box[1] * factors[1]
    right, bottom = min(box[2] * factors[0], whole.width), min(box[3] * factors[1], whole.height)
    size = (box[2] - box[0], box[3] - box[1])
    return whole.resize(size, Image.Resampling.LANCZOS, (left, top, right, bottom))


@dataclass(frozen=True, slots=True)
class BatchSampler:
    """The positions of each micro-batch of one process, from the first step to the last."""

    first_step: int
    last_step: int
    grad_accum: int
    batch_size: int
    processes: int
    process: int

    def __iter__(self) -> Iterator[list[int]]:
        """The positions of each micro-batch, in order."""
        for micro in range(self.first_step * self.grad_accum, self.last_step * self.grad_accum):
            start = (micro * self.processes + self.process) * self.batch_size
            yield list(range(start, start + self.batch_size))

    def __len__(self) -> int:
        """The number of micro-batches."""
        return (self.last_step - self.first_step) * self.grad_accum


def batches(examples: Examples, sampler: BatchSampler, workers: int) -> Iterator[Batch]:
    """The batches that a sampler asks for, loaded ahead by worker processes; 0 for none."""
    loader = torch.utils.data.DataLoader(
        examples,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_ignore_interrupts if workers else None,
    )
    return iter(loader)


def _ignore_interrupts(_worker: int) -> None:
    """Leave Ctrl-C to the training process, which still needs its batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
