"""The work between steps: metrics, checkpoints, sample grids, and stopping on a signal.

Rule 1: a checkpoint has only finite weights, from finite losses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL import Image

from ..choices import Tracker
from ..diffusion.memory import is_out_of_memory
from ..errors import TrainingError
from ..images.grid import save_picture, save_png
from .checkpoint import save_checkpoint
from .distributed import is_sharded, local_part, max_over_processes, wait_for_all
from .loop import LoopState, StepResult
from .metrics import VALIDATION, SmoothedLoss, append_row, read_metrics, smoothed
from .sample_grids import GridSampler
from .setup import PreparedRun
from .signals import DeferredSignal
from .validation import Validation

SAMPLES = "samples"
PLOT = "loss.png"
TRACKED = ("loss", "lr", "grad_norm", "epoch")
"""Metrics that are also sent to a tracker."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run at a step."""

    step: int
    steps: int
    loss: float
    """Smoothed loss; see `SmoothedLoss`."""
    lr: float
    rate: float
    """Steps per second since the last report."""


class Reporter(Protocol):
    """Reports the progress of a run to the user."""

    def say(self, text: str) -> None:
        """Print a message."""

    def begin(self, step: int, steps: int) -> None:
        """Report that training starts after `step` of `steps`."""

    def step(self, step: int) -> None:
        """Report that a step was made."""

    def show(self, progress: Progress) -> None:
        """Report progress."""

    def end(self) -> None:
        """Report that training has ended, for whatever reason."""


@dataclass
class Callbacks:
    """The callbacks of a run; `after_step` is to be called after each step."""

    run: PreparedRun
    state: LoopState
    reporter: Reporter
    grid_sampler: GridSampler
    validation: Validation | None
    signals: DeferredSignal
    identity: Mapping[str, str]
    started: float = field(default_factory=time.monotonic)
    _window: list[StepResult] = field(default_factory=list)
    _smoothed: SmoothedLoss = field(default_factory=SmoothedLoss)
    _saved: int | None = None

    def after_step(self, result: StepResult) -> None:
        """Do everything that is due after a step.

        Raises TrainingError if the loss, or weights to be saved, are not finite, OutputError if a
        checkpoint cannot be written, and whatever the handler of a received signal raises.
        """
        options, last = self.run.options, result.step == self.run.plan.steps
        self._window.append(result)
        self.reporter.step(result.step)
        number = self._agreed_signal()
        save_due = result.step % options.save_every == 0 or last or number
        if result.step % options.log_every == 0 or save_due:
            self._report()
        if result.step % (options.validate_every or options.save_every) == 0 or last:
            self.validate()
        if save_due:
            self.save_checkpoint()
        if options.sample_every and (result.step % options.sample_every == 0 or last):
            self.draw_grid()
        if last:
            # last chance to stop before publishing, which can take long
            number = number or self._agreed_signal()
        if number:
            self._stop(number)
        if not self._window:
            # the time spent on checkpoints and grids does not count in steps per second
            self.started = time.monotonic()

    def _agreed_signal(self) -> int:
        """The signal that any of the processes received; 0 for none."""
        return max_over_processes(self.run.accelerator, int(self.signals.number or 0))

    def _report(self) -> None:
        """Report and record the metrics since the last report."""
        accelerator = self.run.accelerator
        losses = torch.stack([result.loss for result in self._window])
        if self.run.plan.processes > 1:
            losses = accelerator.reduce(losses, "mean")
        values = losses.tolist()
        self._require_finite(values)
        last, seconds = self._window[-1], time.monotonic() - self.started
        loss = math.fsum(values) / len(values)
        shown = self._smoothed.add(loss)
        steps_per_second = len(values) / max(seconds, 1e-9)
        self._window.clear()
        if not accelerator.is_main_process:
            return
        row = self._row(last, loss, steps_per_second)
        append_row(self.run.request.output, row)
        if self.run.options.log_with is not Tracker.NONE:
            figures = {name: row[name] for name in TRACKED if row[name] is not None}
            accelerator.log(figures, step=last.step)
        steps = self.run.plan.steps
        self.reporter.show(Progress(last.step, steps, shown, last.lr, steps_per_second))

    def _row(self, last: StepResult, loss: float, steps_per_second: float) -> dict[str, Any]:
        plan = self.run.plan
        seen = last.step * plan.global_batch
        norm = last.gradient_norm
        return {
            "step": last.step,
            "epoch": seen / plan.epoch_images,
            "loss": loss,
            "lr": last.lr,
            # JSON has no infinity, which occurs in fp16 while the loss scale is being adjusted
            "grad_norm": None if norm is None or not norm.isfinite() else float(norm),
            "it/s": steps_per_second,
            "samples_seen": seen,
            "time": time.time(),
        }

    def _require_finite(self, losses: list[float]) -> None:
        for result, loss in zip(self._window, losses, strict=True):
            if not math.isfinite(loss):
                raise self._not_finite(f"the loss is not finite at step {result.step}")

    def _require_finite_weights(self) -> None:
        # infinite weights can follow from a finite loss, by its gradients or the learning rate
        parts = map(local_part, self.state.trained.values())
        if max_over_processes(
            self.run.accelerator, any(not part.isfinite().all() for part in parts)
        ):
            raise self._not_finite(f"the weights are not finite after step {self.state.step}")

    def _not_finite(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}; {self._last_good()}",
            path=self.run.request.output,
            advice="try a lower --lr, or --precision no",
        )

    def _last_good(self) -> str:
        return "no checkpoint was saved" if self._saved is None else f"step {self._saved} is saved"

    def save_checkpoint(self) -> None:
        """Write a checkpoint, unless one of this step exists."""
        if self._saved != self.state.step:
            self._require_finite_weights()
            with wait_for_all(self.run.accelerator):
                save_checkpoint(
                    self.run.request.output, self.state, self.identity, self.run.options.keep
                )
                if self.run.accelerator.is_main_process:
                    self._draw_plot()
        self._saved = self.state.step

    def resume_after(self, step: int) -> None:
        """Continue after the checkpoint of a step, with the smoothed loss as it was there."""
        self._saved = step
        for row in read_metrics(self.run.request.output):
            self._smoothed.add(row["loss"])

    def _draw_plot(self) -> None:
        rows = read_metrics(self.run.request.output)
        points = [(row["step"], row["loss"]) for row in rows]
        if points:
            steps, losses = zip(*points, strict=True)
            # matplotlib is loaded only when a plot is drawn
            from ..images.plots import loss_plot

            plot = loss_plot(steps, losses, smoothed(losses))
            save_png(self.run.request.output / PLOT, plot)

    def validate(self) -> None:
        """Measure, report and record the validation loss, if there are images for it."""
        if self.validation is None:
            return
        accelerator, step = self.run.accelerator, self.state.step
        loss = self.validation.measure(self.state)
        if not math.isfinite(loss):
            raise self._not_finite(f"the validation loss is not finite after step {step}")
        if not accelerator.is_main_process:
            return
        append_row(self.run.request.output, {"step": step, "validation_loss": loss}, VALIDATION)
        if self.run.options.log_with is not Tracker.NONE:
            accelerator.log({"validation_loss": loss}, step=step)
        self.reporter.say(f"step {step}: validation loss {loss:.5f}")

    def draw_grid(self) -> None:
        """Draw and write a sample grid."""
        accelerator = self.run.accelerator
        with wait_for_all(accelerator):
            picture = None
            # a single process cannot sample with sharded weights
            if accelerator.is_main_process or is_sharded(accelerator):
                picture = self._grid()
            if accelerator.is_main_process and picture is not None:
                name = f"step-{self.state.step:06}.png"
                save_picture(self.run.request.output / SAMPLES / name, picture)

    def _grid(self) -> Image.Image | None:
        """The sample grid; None, and a message, if there is no memory for it."""
        try:
            return self.grid_sampler.draw(self.state)
        except (RuntimeError, MemoryError) as error:
            # where weights are sharded, the other processes wait for this one
            if not is_out_of_memory(error) or is_sharded(self.run.accelerator):
                raise
        # outside of the block, which keeps the tensors of the failed attempt
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        grid = "it has too many images: set a smaller sample-grid in --config"
        self.reporter.say(f"step {self.state.step}: no sample grid, out of memory ({grid})")
        return None

    def _stop(self, number: int) -> None:
        self.reporter.end()
        step, steps = self.state.step, self.run.plan.steps
        self.reporter.say(
            f"stopped: step {step} of {steps} is saved; to resume: {self.run.request.command}"
        )
        self.signals.number = number
        self.signals.deliver()
