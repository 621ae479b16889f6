"""What a run is going to do, told before it begins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..choices import Precision
from ..diffusion.base import TEXT_ENCODER, VAE, parameter_counts
from ..errors import UsageError
from .base_setup import BaseSetup
from .dataset import Dataset, counted
from .distributed import in_parts
from .export import copied_size
from .labels import Classes
from .options import Options


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything that a person may want to know before the first step."""

    base: str
    class_name: str
    data: str
    output: str
    images: int
    captions: int
    classes: int
    data_digest: str
    resolution: int
    prediction: str
    steps: int
    epochs: float
    batch_size: int
    grad_accum: int
    processes: int
    trained: int
    """Parameters that change."""
    frozen: int
    device: str
    precision: str
    checkpoint_bytes: int
    model_bytes: int
    """Of what the run ends with."""
    latents_bytes: int
    """Of the cache of latents, if that was asked for."""
    disk_bytes: int
    """In all, with as many checkpoints as are kept, and one on its way."""
    notices: tuple[str, ...]

    @property
    def global_batch(self) -> int:
        """Images of an optimizer step."""
        return self.batch_size * self.grad_accum * self.processes


def make_plan(
    ground: BaseSetup, shard: Dataset, classes: Classes | None, output: Path, accelerator: Any
) -> RunPlan:
    """The plan of a run on a data shard; UsageError without --steps or --epochs."""
    base, options, images = ground.base, ground.options, len(shard.samples)
    trained, frozen = _parameters(ground)
    processes = accelerator.num_processes
    steps = count_steps(options, images, processes)
    checkpoint = checkpoint_size(trained, options)
    result = result_size(trained, copied_size(base) if ground.bank is None else 0, options)
    latents = latents_size(images, ground.frame.shape) if options.cache_latents else 0
    return RunPlan(
        base=str(base.folder),
        class_name=base.class_name,
        data=str(shard.folder),
        output=str(output),
        images=images,
        captions=sum(len(sample.captions) for sample in shard.samples),
        classes=len(classes.numbers) if classes else 0,
        data_digest=shard.digest,
        resolution=ground.frame.resolution,
        prediction=ground.objective.prediction.value,
        steps=steps,
        epochs=steps * options.batch_size * options.grad_accum * processes / images,
        batch_size=options.batch_size,
        grad_accum=options.grad_accum,
        processes=processes,
        trained=trained,
        frozen=frozen,
        device=str(accelerator.device),
        precision=options.precision.value if options.precision is not Precision.NO else "fp32",
        checkpoint_bytes=checkpoint,
        model_bytes=result,
        latents_bytes=latents,
        disk_bytes=(options.keep + 1) * checkpoint + result + latents,
        notices=tuple(_notices(ground, shard, accelerator)),
    )


def _notices(ground: BaseSetup, shard: Dataset, accelerator: Any) -> Iterator[str]:
    """What a person should know of before it begins."""
    yield from shard.notices
    resolution = ground.frame.resolution
    if enlarged := sum(min(sample.size) < resolution for sample in shard.samples):
        yield f"{counted(enlarged, 'image')} smaller than {resolution}, enlarged"
    yield from ground.notices
    if in_parts(accelerator):
        yield f"each of {accelerator.num_processes} processes holds a part of the weights"


def _parameters(ground: BaseSetup) -> tuple[int, int]:
    """How many numbers change, and how many do not."""
    counts = parameter_counts(ground.base)
    whole = counts[ground.base.denoiser]
    frozen = counts.get(VAE, 0) + counts.get(TEXT_ENCODER, 0)
    if ground.bank is None:
        return whole, frozen
    return ground.bank.trained, frozen + whole


def count_steps(options: Options, images: int, processes: int) -> int:
    """The optimizer steps of a run; the last step of the last epoch may reach into another.

    Raises UsageError if neither steps nor epochs were asked for.
    """
    if options.steps is not None:
        return options.steps
    if options.epochs is None:
        raise UsageError("give --steps or --epochs")
    return -(-options.epochs * images // (options.batch_size * options.grad_accum * processes))


def checkpoint_size(trained: int, options: Options) -> int:
    """Bytes of a checkpoint of so many trained parameters, in float32.

    It holds weights, two moments of the optimizer, and the mean of the weights.
    """
    return 4 * trained * (4 if options.ema else 3)


def result_size(trained: int, copied: int, options: Options) -> int:
    """Bytes of what a run ends with: weights, the raw ones beside their mean, and copied files."""
    return 4 * trained * (2 if options.ema else 1) + copied


def latents_size(images: int, shape: tuple[int, int, int]) -> int:
    """Bytes of so many images' cached latents [C, H, W]: moments, and those of mirror images."""
    return images * 2 * 2 * 4 * math.prod(shape)
