"""The validation loss: that of images that are not trained on, with the same draws each time.

Rule 1: noise, timesteps and captions depend on the images alone, not on seed, step or number of
processes, so that losses of several steps, and of several runs, differ by training alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from .distributed import is_sharded
from .loader import Batch, Examples, collate
from .loop import LoopState, Loss
from .options import Options
from .sample_grids import ema_in_place
from .setup import PreparedRun

VISITS = 4
"""How often an image counts, each time with another noise and timestep."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Measures the validation loss of a run."""

    examples: Examples
    batch_size: int
    loss: Loss

    def measure(self, state: LoopState) -> float:
        """The mean loss of the current weights, or of their EMA if there is one.

        Every process must call it; each computes a part, unless the weights are sharded.
        """
        accelerator = state.accelerator
        shared = is_sharded(accelerator)
        model = state.model if shared else accelerator.unwrap_model(state.model)
        last = VISITS * self.examples.order.epoch
        starts = range(0, last, self.batch_size)
        totals = torch.zeros(len(starts), device=accelerator.device)
        with ema_in_place(state), torch.no_grad():
            for number, start in enumerate(starts):
                if shared or number % accelerator.num_processes == accelerator.process_index:
                    batch = self._batch(start, min(start + self.batch_size, last))
                    totals[number] = self.loss(model, batch) * len(batch.positions)
        if accelerator.num_processes > 1 and not shared:
            totals = accelerator.reduce(totals, "sum")
        return math.fsum(totals.tolist()) / last

    def _batch(self, start: int, stop: int) -> Batch:
        return collate([self.examples[position] for position in range(start, stop)])


def plain_options(options: Options) -> Options:
    """The options with which validation images are prepared: nothing is random but noise."""
    return replace(
        options,
        seed=0,
        flip=False,
        random_crop=False,
        cond_drop=0.0,
        masked_loss=False,
        noise_offset=0.0,
    )


def make_validation(run: PreparedRun, loss: Loss) -> Validation | None:
    """The validation of a prepared run; None if it has no validation images."""
    if run.validation is None:
        return None
    samples = run.validation.samples
    labels = None
    if run.classes is not None:
        labels = [run.classes.numbers[str(each.label)] for each in samples]
    options = plain_options(run.options)
    examples = Examples(samples, options, run.input_spec, labels, None, None)
    return Validation(examples, options.batch_size, loss)
