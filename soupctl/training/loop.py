"""The one loop: steps of an optimizer over batches, the same for whatever is trained.

Rule 1: the loop draws nothing; batches bring their randomness with them.
Rule 2: the learning rate is a function of the step, and the state is weights, moments of the
optimizer, EMA and the number of steps: nothing else has to be kept to go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..choices import Optimizer, Schedule
from .distributed import whole
from .loader import Batch
from .options import Options

Loss = Callable[[Any, Batch], torch.Tensor]
"""The loss of a batch by the model, as accelerate wrapped it: the objective and any extra terms."""


def undisturbed(_batch: Batch) -> AbstractContextManager[object]:
    """A context in which nothing is otherwise than outside."""
    return nullcontext()


@dataclass
class LoopState:
    """What changes as training goes on."""

    accelerator: Any
    model: Any
    """What is called, as accelerate wrapped it."""
    trained: Mapping[str, torch.nn.Parameter]
    """The parameters that change, by the names under which they are kept."""
    optimizer: Any
    ema: Any | None
    """diffusers' EMAModel over `trained`, in that order."""
    step: int = 0
    """Optimizer steps that were made."""
    during: Callable[[Batch], AbstractContextManager[object]] = undisturbed
    """What holds while the loss of a batch and its gradients are found."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that was just made; tensors, so that nobody waits for a device who need not."""

    step: int
    """From 1."""
    loss: torch.Tensor
    """Mean over the step's batches of this process."""
    gradient_norm: torch.Tensor | None
    """Before clipping; None if it is not clipped."""
    lr: float


def make_optimizer(parameters: list[Any], options: Options) -> Any:
    """The optimizer of parameters, or of groups of them; see `require_libraries`."""
    if options.optimizer is Optimizer.ADAMW8BIT:
        # a user without it trains with the other one
        import bitsandbytes

        kind = bitsandbytes.optim.AdamW8bit
    else:
        kind = torch.optim.AdamW
    return kind(parameters, lr=options.lr, weight_decay=options.weight_decay)


def rate(step: int, options: Options, total: int) -> float:
    """The learning rate of a step, from 0, among `total`: a ramp over the warm-up, then the rest.

    Linear and cosine schedules would reach 0 at step `total`.
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
    training: LoopState, options: Options, total: int, batches: Iterator[Batch], loss_of: Loss
) -> Iterator[StepResult]:
    """Make the steps from `training.step` to `total`, yielding after each."""
    accelerator, optimizer = training.accelerator, training.optimizer
    parameters = list(training.trained.values())
    while training.step < total:
        lr = rate(training.step, options, total)
        for group in optimizer.param_groups:
            # some parameters may learn faster than others
            group["lr"] = lr * group.get("factor", 1)
        losses, norm = [], None
        for _ in range(options.grad_accum):
            batch = next(batches)
            with accelerator.accumulate(training.model), training.during(batch):
                loss = loss_of(training.model, batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients and options.max_grad_norm:
                    norm = accelerator.clip_grad_norm_(parameters, options.max_grad_norm)
                    # DeepSpeed clips for itself, and says a plain number, if any
                    norm = None if norm is None else whole(torch.as_tensor(norm), accelerator)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.detach())
        if training.ema is not None and not accelerator.optimizer_step_was_skipped:
            training.ema.step(parameters)
        training.step += 1
        yield StepResult(training.step, torch.stack(losses).mean(), norm, lr)
