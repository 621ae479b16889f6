"""Training examples and their batches: images or latents, noise, timesteps, captions and labels.

Rule 1: an example is a function of the seed and of its position, its number in the run counted
through all epochs; so it does not matter which process, worker or start of the run makes it.
Rule 2: the cache keeps mean and log variance of the latents of an image and of its mirror image, so
that latents are still sampled anew for each position.
Rule 3: the name of a cached file covers all that it depends on: image, autoencoder and resolution;
so a file that exists is right, whichever run wrote it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from ..checkpoints.digest import PREFIX, text_digest
from ..diffusion import rng
from ..diffusion.flow import draw_timestep
from ..errors import InputError
from ..storage.atomic import publish_bytes
from .buckets import BucketOrder, Order, PlainOrder, Size, size_for
from .dataset import Sample
from .kept_images import KeptImages
from .options import Options
from .pixels import frame_of, read_pixels
from .signals import begin_worker


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
    buckets: tuple[tuple[Size, ...], ...] = ()
    """Sizes of images of several shapes, by resolution; none if all images are square."""
    is_flow: bool = False
    """Whether timesteps are drawn as in flow matching."""

    def size_of(self, sample: Sample) -> Size:
        """Width and height in pixels that an image is scaled and cropped to."""
        if not self.buckets:
            return self.resolution, self.resolution
        return size_for(sample.size, self.buckets)

    def shape_of(self, size: Size) -> tuple[int, int, int]:
        """Channels, height and width of the denoiser's input for an image of that size."""
        channels, height, _ = self.shape
        scale = self.resolution // height
        return channels, size[1] // scale, size[0] // scale


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
    masks: torch.Tensor | None = None
    """What each position counts in the loss, [B, 1, H, W]; None if all count alike."""
    weights: torch.Tensor | None = None
    """What each example counts in the loss, [B]; None if all count alike."""


@dataclass(frozen=True, slots=True)
class LatentCache:
    """The cached latents of a run, one safetensors file for each image."""

    folder: Path
    vae_digest: str
    input_spec: InputSpec

    def path_of(self, sample: Sample) -> Path:
        """The cache file of a sample."""
        width, height = self.input_spec.size_of(sample)
        size = str(width) if width == height else f"{width}x{height}"
        key = text_digest(f"{sample.digest} {self.vae_digest} {size}")
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
        self._kept = KeptImages()
        self.order = make_order(samples, options, input_spec)

    def __getitem__(self, position: int) -> Batch:
        """The example at a position, as a batch of one."""
        options, input_spec = self._options, self._input_spec
        seed = options.seed
        index = self.order.index(position)
        sample = self._samples[index]
        size = input_spec.size_of(sample)
        shape = input_spec.shape_of(size)
        noise = rng.normal(shape, seed, "noise", position)
        if options.noise_offset:
            offset = rng.normal((shape[0], 1, 1), seed, "noise offset", position)
            noise = noise + np.float32(options.noise_offset) * offset
        latent_noise = rng.normal(shape, seed, "latent", position) if input_spec.has_vae else None
        dropped = rng.uniform(seed, "drop", position) < options.cond_drop
        flipped = options.flip and rng.uniform(seed, "flip", position) < 0.5
        crop = self._crop(position)
        frame = frame_of(sample.size, size, crop, flipped=flipped)
        return Batch(
            images=self._image(sample, crop, flipped=flipped),
            noise=torch.from_numpy(noise)[None],
            latent_noise=None if latent_noise is None else torch.from_numpy(latent_noise)[None],
            timesteps=torch.tensor([self._timestep(position)]),
            captions=("" if dropped else self._caption(sample, position),),
            labels=self._label(index, dropped),
            positions=(position,),
            frames=torch.tensor([frame]),
            masks=self._mask(sample, crop, flipped=flipped) if options.masked_loss else None,
        )

    def _timestep(self, position: int) -> int:
        options, choices = self._options, self._input_spec.timesteps
        if self._input_spec.is_flow:
            spread = (options.logit_mean, options.logit_std, options.mode_scale)
            return draw_timestep(choices, options.weighting, spread, options.seed, position)
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
        size, channels = self._input_spec.size_of(sample), self._input_spec.pixel_channels
        if self._options.random_crop:
            pixels = read_pixels(sample, size, channels, crop)
        else:
            pixels = self._kept.read(sample, size, channels)
        return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1]) if flipped else pixels)[
            None
        ]

    def _mask(self, sample: Sample, crop: tuple[float, float], *, flipped: bool) -> torch.Tensor:
        """What each position of an image counts, [1, 1, H, W]: the mean of its mask there."""
        size = self._input_spec.size_of(sample)
        _, height, width = self._input_spec.shape_of(size)
        if sample.mask is None:
            return torch.ones(1, 1, height, width)
        pixels = torch.from_numpy(read_pixels(sample.mask, size, 1, crop))[None]
        mask = torch.nn.functional.interpolate((pixels + 1) / 2, (height, width), mode="area")
        return mask.flip(-1) if flipped else mask

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


def make_order(samples: Sequence[Sample], options: Options, input_spec: InputSpec) -> Order:
    """The order in which a run visits images: with buckets, those of a batch have one size."""
    if not input_spec.buckets:
        return PlainOrder(options.seed, tuple(_repeated(samples)))
    groups: dict[Size, list[int]] = {}
    for index in _repeated(samples):
        groups.setdefault(input_spec.size_of(samples[index]), []).append(index)
    ordered = tuple(tuple(groups[size]) for size in sorted(groups))
    return BucketOrder(options.seed, ordered, options.batch_size)


def _repeated(samples: Sequence[Sample]) -> Iterator[int]:
    """The indices of the images, each as often as it counts in an epoch."""
    for index, sample in enumerate(samples):
        yield from itertools.repeat(index, sample.repeats)


def collate(examples: Sequence[Batch]) -> Batch:
    """One batch of several examples."""
    drawn = [each.latent_noise for each in examples if each.latent_noise is not None]
    labels = [each.labels for each in examples if each.labels is not None]
    masks = [each.masks for each in examples if each.masks is not None]
    weights = [each.weights for each in examples if each.weights is not None]
    return Batch(
        images=torch.cat([each.images for each in examples]),
        noise=torch.cat([each.noise for each in examples]),
        latent_noise=torch.cat(drawn) if drawn else None,
        timesteps=torch.cat([each.timesteps for each in examples]),
        captions=tuple(caption for each in examples for caption in each.captions),
        labels=torch.cat(labels) if labels else None,
        positions=tuple(position for each in examples for position in each.positions),
        frames=torch.cat([each.frames for each in examples]),
        masks=torch.cat(masks) if masks else None,
        weights=torch.cat(weights) if weights else None,
    )


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
        worker_init_fn=begin_worker if workers else None,
    )
    return iter(loader)
