"""Sample grids of a run: what the denoiser makes of the same noise, again and again.

Rule 1: noise and conditions are those of the seed, so that grids differ by training alone.
Rule 2: the mean of the weights is put in place for a grid, and always taken out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..diffusion import rng
from ..diffusion.base import Conditioning
from ..diffusion.loading import Models, decode_latents, encode_captions
from ..diffusion.sampling import initial_noise, sample, sampler_of
from ..images.grid import grid_of_rows
from .loop import LoopState
from .setup import Prepared

MOST_ROWS = 8
"""Classes, or captions where no prompts were given, that a grid shows at most."""


@dataclass(frozen=True, slots=True)
class GridSampler:
    """Makes the grids of one run: a row for each prompt or class."""

    run: Prepared
    models: Models

    def paint(self, training: LoopState) -> Image.Image:
        """The grid of the weights as they are, or of their mean where it is kept."""
        with mean_in_place(training):
            images, labels = self._rows(training.accelerator.unwrap_model(training.model))
        return grid_of_rows(images, labels)

    def _rows(self, denoiser: Any) -> tuple[torch.Tensor, list[str]]:
        """The images [rows, images a row, C, H, W], and the prompt or class of each row."""
        options, frame = self.run.options, self.run.frame
        device = next(denoiser.parameters()).device
        scheduler = sampler_of(self.run.scheduler, self.run.objective, has_vae=frame.has_vae)
        images, labels = [], []
        for row, (label, condition, without) in enumerate(self._conditions(device)):
            shape = (options.sample_grid, *frame.shape)
            noise = initial_noise(shape, options.seed, f"grid {row}").to(device)
            latents = sample(
                denoiser,
                scheduler,
                noise,
                condition,
                without,
                steps=options.sample_steps,
                guidance=options.guidance,
            )
            images.append(decode_latents(self.models, latents))
            labels.append(label)
        # an unconditional model has one row, and nothing to say of it
        return torch.stack(images), labels if any(labels) else []

    def _conditions(
        self, device: torch.device
    ) -> Iterator[tuple[str, torch.Tensor | None, torch.Tensor | None]]:
        """For each row a label, a condition and the condition that stands for none.

        Without conditioning there is one row, with an empty label and None for both.
        """
        run, count = self.run, self.run.options.sample_grid
        if run.base.conditioning is Conditioning.TEXT:
            for prompt in self._prompts():
                yield (
                    prompt,
                    encode_captions(self.models, [prompt] * count),
                    encode_captions(self.models, [""] * count),
                )
        elif run.classes is not None:
            null = run.classes.null
            names = sorted(run.classes.numbers, key=run.classes.numbers.__getitem__)
            for name in names[:MOST_ROWS]:
                yield (
                    f"class {name}",
                    torch.full((count,), run.classes.numbers[name], device=device),
                    None if null is None else torch.full((count,), null, device=device),
                )
        else:
            yield "", None, None

    def _prompts(self) -> tuple[str, ...]:
        options, samples = self.run.options, self.run.shard.samples
        if options.prompt:
            return options.prompt
        chosen = rng.order(options.seed, -1, len(samples))[: min(MOST_ROWS, options.sample_grid)]
        return tuple(samples[int(index)].captions[0] for index in chosen)


@contextmanager
def mean_in_place(training: LoopState) -> Iterator[None]:
    """The mean of the weights where the weights are, while the block lasts."""
    if training.ema is None:
        yield
        return
    parameters = list(training.trained.values())
    training.ema.store(parameters)
    training.ema.copy_to(parameters)
    try:
        yield
    finally:
        training.ema.restore(parameters)
