"""The training loop: optimizer steps over batches, the same for denoisers and prompt banks.

Rule 1: the loop uses no randomness; batches contain all of it.
Rule 2: the learning rate is a function of the step; the state is weights, optimizer, EMA and step,
and nothing else is needed to resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..choices import Schedule
from .averages import Averages
from .distributed import gather
from .loader import Batch
from .options import Options

Loss = Callable[[Any, Batch], torch.Tensor]
"""The loss of a batch by the model, as accelerate wrapped it: the objective and any extra terms."""


def no_context(_batch: Batch) -> AbstractContextManager[object]:
    """A context that does nothing."""
    return nullcontext()


@dataclass
class LoopState:
    """Everything that changes during training."""

    accelerator: Any
    model: Any
    """The model as accelerate wrapped it."""
    trained: Mapping[str, torch.nn.Parameter]
    """The trained parameters, by their names in checkpoints."""
    optimizer: Any
    averages: Averages
    """The averages of `trained`, in the same order."""
    step: int = 0
    """Number of optimizer steps made."""
    batch_context: Callable[[Batch], AbstractContextManager[object]] = no_context
    """Makes the context in which the loss of a batch and its gradients are computed."""

    @property
    def ema(self) -> Any | None:
        """diffusers' EMAModel of `trained`, if that option is set."""
        return self.averages.ema


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one step; tensors, so that reading them can wait until they are needed."""

    step: int
    """Number of the step, from 1."""
    loss: torch.Tensor
    """Mean over the step's batches of this process."""
    gradient_norm: torch.Tensor | None
    """Norm of the gradient before clipping; None without clipping."""
    lr: float


def learning_rate(step: int, options: Options, total: int) -> float:
    """The learning rate of a step from 0 to `total` - 1: linear warmup, then the schedule.

    Linear and cosine schedules reach 0 at step `total`.
    """
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(total - options.warmup, 1)
    if options.lr_schedule is Schedule.LINEAR:
        return options.lr * (1 - done)
    if options.lr_schedule is Schedule.COSINE:
        return options.lr * 0.5 * (1 + math.cos(math.pi * done))
    return options.lr


def train(
    state: LoopState, options: Options, total: int, batches: Iterator[Batch], loss_function: Loss
) -> Iterator[StepResult]:
    """Make the steps after `state.step` up to `total`, yielding the result of each."""
    accelerator, optimizer = state.accelerator, state.optimizer
    parameters = list(state.trained.values())
    while state.step < total:
        lr = learning_rate(state.step, options, total)
        for group in optimizer.param_groups:
            # a multiple of --lr, for the gate of a bank
            group["lr"] = lr * group.get("factor", 1)
        losses, norm = [], None
        for _ in range(options.grad_accum):
            batch = next(batches)
            with accelerator.accumulate(state.model), state.batch_context(batch):
                loss = loss_function(state.model, batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients and options.max_grad_norm:
                    norm = accelerator.clip_grad_norm_(parameters, options.max_grad_norm)
                    # DeepSpeed clips by itself, and returns a number or None
                    norm = None if norm is None else gather(torch.as_tensor(norm), accelerator)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.detach())
        if not accelerator.optimizer_step_was_skipped:
            state.averages.step(parameters)
        state.step += 1
        yield StepResult(state.step, torch.stack(losses).mean(), norm, lr)
