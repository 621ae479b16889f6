"""Sample grids of a run: images that the denoiser makes from the same noise at several steps.

Rule 1: noise and conditions depend on the seed alone, so that grids differ by training alone.
Rule 2: the EMA replaces the weights while a grid is drawn, and the weights are always restored.
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
from ..diffusion.families.family import Condition, Frame
from ..diffusion.loading import Models, decode_latents, encode_captions, encode_nothing
from ..diffusion.sampling import Sampler, initial_noise, sample, sampler_of
from ..images.grid import grid_of_rows
from .loop import LoopState
from .setup import PreparedRun

MOST_ROWS = 8
"""Largest number of classes, or of captions where no prompts were given, in a grid."""


@dataclass(frozen=True, slots=True)
class GridSampler:
    """Draws the grids of one run, with a row for each prompt or class."""

    run: PreparedRun
    models: Models

    def draw(self, state: LoopState) -> Image.Image:
        """The grid of the current weights, or of their EMA if there is one."""
        with ema_in_place(state):
            images, labels = self._rows(state.accelerator.unwrap_model(state.model))
        return grid_of_rows(images, labels)

    def _rows(self, denoiser: Any) -> tuple[torch.Tensor, list[str]]:
        """The images [rows, images a row, C, H, W], and the prompt or class of each row."""
        options, input_spec = self.run.options, self.run.input_spec
        device = next(denoiser.parameters()).device
        run, base = self.run, self.run.base
        scheduler = sampler_of(run.scheduler, run.objective, is_clipped=base.is_clipped)
        sampler = Sampler(denoiser, base, scheduler, options.sample_steps, options.guidance)
        images, labels = [], []
        for row, (label, condition, without) in enumerate(self._conditions(device)):
            shape = (options.sample_grid, *input_spec.shape)
            noise = initial_noise(shape, options.seed, f"grid {row}").to(device)
            latents = sample(sampler, noise, condition, without)
            images.append(decode_latents(self.models, latents))
            labels.append(label)
        # an unconditional model has one row, without a label
        return torch.stack(images), labels if any(labels) else []

    def _conditions(
        self, device: torch.device
    ) -> Iterator[tuple[str, Condition, Condition | None]]:
        """For each row a label, a condition and the null condition.

        Without conditioning there is one row, with an empty label and no null condition.
        """
        run, count = self.run, self.run.options.sample_grid
        if run.base.conditioning is Conditioning.TEXT:
            side, guidance = run.input_spec.resolution, run.options.guidance
            frame = Frame.whole(count, side, side)
            null = encode_nothing(self.models, count, frame, guidance)
            for prompt in grid_prompts(run):
                found = encode_captions(self.models, [prompt] * count, frame, guidance)
                yield prompt, found, null
        elif run.classes is not None:
            without = run.classes.null
            names = sorted(run.classes.numbers, key=run.classes.numbers.__getitem__)

            def labelled(number: int) -> Condition:
                return {"class_labels": torch.full((count,), number, device=device)}

            for name in names[:MOST_ROWS]:
                number = run.classes.numbers[name]
                yield (
                    f"class {name}",
                    labelled(number),
                    None if without is None else labelled(without),
                )
        else:
            yield "", {}, None


def grid_prompts(run: PreparedRun) -> tuple[str, ...]:
    """The prompts of the grids of a run, by default captions of its images."""
    options, samples = run.options, run.dataset.samples
    if options.prompt:
        return options.prompt
    chosen = rng.permutation(options.seed, -1, len(samples))[: min(MOST_ROWS, options.sample_grid)]
    return tuple(samples[int(index)].captions[0] for index in chosen)


@contextmanager
def ema_in_place(state: LoopState) -> Iterator[None]:
    """Replace the weights by their EMA, if there is one, while the block lasts."""
    if state.ema is None:
        yield
        return
    parameters = list(state.trained.values())
    state.ema.store(parameters)
    for parameter, value in zip(parameters, state.ema.shadow_params, strict=True):
        # one by one: all of them together may not fit beside the weights
        parameter.data.copy_(value)
    try:
        yield
    finally:
        state.ema.restore(parameters)
