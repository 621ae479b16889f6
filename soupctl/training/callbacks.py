"""What happens between steps: figures, checkpoints, grids, and stopping when asked to.

Rule 1: a checkpoint is written only of finite weights that came from finite losses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ..choices import Tracker
from ..errors import TrainingError
from ..images.grid import save_picture, save_png
from .checkpoint import save
from .distributed import in_parts, largest, own_part, together
from .loop import LoopState, StepResult
from .metrics import SmoothedLoss, append, read_metrics, smoothed
from .sample_grids import GridSampler
from .setup import Prepared
from .signals import DeferredSignal

SAMPLES = "samples"
PLOT = "loss.png"
TRACKED = ("loss", "lr", "grad_norm", "epoch")
"""Figures that a tracker is told, too."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    step: int
    steps: int
    loss: float
    """Smoothed."""
    lr: float
    rate: float
    """Steps a second, of late."""


class Reporter(Protocol):
    """Whoever tells a person how a run goes."""

    def say(self, text: str) -> None:
        """Tell one thing."""

    def begin(self, step: int, steps: int) -> None:
        """Tell that training begins after `step` of so many steps."""

    def step(self, step: int) -> None:
        """Tell that a step was made."""

    def show(self, progress: Progress) -> None:
        """Tell how far it is."""

    def end(self) -> None:
        """Tell that training has ended, in whatever way."""


@dataclass
class Callbacks:
    """Looks after a run; `after` is called when a step was made."""

    run: Prepared
    training: LoopState
    teller: Reporter
    painter: GridSampler
    signals: DeferredSignal
    identity: Mapping[str, str]
    started: float = field(default_factory=time.monotonic)
    _window: list[StepResult] = field(default_factory=list)
    _smoothed: SmoothedLoss = field(default_factory=SmoothedLoss)
    _saved: int | None = None

    def after(self, made: StepResult) -> None:
        """Do what is due after a step.

        Raises TrainingError for a loss, or weights to be saved, that are not finite, OutputError
        if a checkpoint cannot be written, and whatever the signal raises that came meanwhile.
        """
        options, last = self.run.options, made.step == self.run.plan.steps
        self._window.append(made)
        self.teller.step(made.step)
        number = self._agreed_signal()
        save_due = made.step % options.save_every == 0 or last or number
        if made.step % options.log_every == 0 or save_due:
            self._report()
        if save_due:
            self.keep()
        if options.sample_every and (made.step % options.sample_every == 0 or last):
            self.sample()
        if last:
            # one that came meanwhile would not be asked for again, and what follows takes long
            number = number or self._agreed_signal()
        if number:
            self._stop(number)
        if not self._window:
            # what was written meanwhile says nothing of how fast steps are
            self.started = time.monotonic()

    def _agreed_signal(self) -> int:
        """The signal that any process was sent; 0 for none."""
        return largest(self.run.accelerator, int(self.signals.number or 0))

    def _report(self) -> None:
        """Tell and write down the figures since the last report."""
        accelerator = self.run.accelerator
        losses = torch.stack([made.loss for made in self._window])
        if self.run.plan.processes > 1:
            losses = accelerator.reduce(losses, "mean")
        values = losses.tolist()
        self._require_finite(values)
        last, seconds = self._window[-1], time.monotonic() - self.started
        loss = math.fsum(values) / len(values)
        shown = self._smoothed.add(loss)
        execution = len(values) / max(seconds, 1e-9)
        self._window.clear()
        if not accelerator.is_main_process:
            return
        row = self._row(last, loss, execution)
        append(self.run.request.output, row)
        if self.run.options.log_with is not Tracker.NONE:
            figures = {name: row[name] for name in TRACKED if row[name] is not None}
            accelerator.log(figures, step=last.step)
        steps = self.run.plan.steps
        self.teller.show(Progress(last.step, steps, shown, last.lr, execution))

    def _row(self, last: StepResult, loss: float, execution: float) -> dict[str, Any]:
        plan = self.run.plan
        seen = last.step * plan.global_batch
        norm = last.gradient_norm
        return {
            "step": last.step,
            "epoch": seen / plan.images,
            "loss": loss,
            "lr": last.lr,
            # JSON knows no infinity, which fp16 meets while it looks for its scale
            "grad_norm": None if norm is None or not norm.isfinite() else float(norm),
            "it/s": execution,
            "samples_seen": seen,
            "time": time.time(),
        }

    def _require_finite(self, losses: list[float]) -> None:
        for made, loss in zip(self._window, losses, strict=True):
            if not math.isfinite(loss):
                raise self._not_finite(f"the loss is not finite at step {made.step}")

    def _require_finite_weights(self) -> None:
        # a finite loss can still have gradients, or a rate, that make infinite weights
        parts = map(own_part, self.training.trained.values())
        if largest(self.run.accelerator, any(not part.isfinite().all() for part in parts)):
            raise self._not_finite(f"the weights are not finite after step {self.training.step}")

    def _not_finite(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}; {self._last_good()}",
            path=self.run.request.output,
            advice="a lower --lr, or --precision no, may help",
        )

    def _last_good(self) -> str:
        return "no checkpoint was made" if self._saved is None else f"step {self._saved} is saved"

    def keep(self) -> None:
        """Write a checkpoint, unless there is one of this step."""
        if self._saved != self.training.step:
            self._require_finite_weights()
            with together(self.run.accelerator):
                save(self.run.request.output, self.training, self.identity, self.run.options.keep)
                if self.run.accelerator.is_main_process:
                    self._draw_plot()
        self._saved = self.training.step

    def resumed(self, step: int) -> None:
        """Continue after the checkpoint of a step, with the smoothed loss as it was there."""
        self._saved = step
        for row in read_metrics(self.run.request.output):
            self._smoothed.add(row["loss"])

    def _draw_plot(self) -> None:
        rows = read_metrics(self.run.request.output)
        points = [(row["step"], row["loss"]) for row in rows]
        if points:
            steps, losses = zip(*points, strict=True)
            # matplotlib is loaded where a plot is drawn, and not before
            from ..images.plots import loss_plot

            plot = loss_plot(steps, losses, smoothed(losses))
            save_png(self.run.request.output / PLOT, plot)

    def sample(self) -> None:
        """Draw a grid of samples."""
        accelerator = self.run.accelerator
        with together(accelerator):
            # no process can sample from a part of the weights
            if accelerator.is_main_process or in_parts(accelerator):
                picture = self.painter.paint(self.training)
            if accelerator.is_main_process:
                name = f"step-{self.training.step:06}.png"
                save_picture(self.run.request.output / SAMPLES / name, picture)

    def _stop(self, number: int) -> None:
        self.teller.end()
        step, steps = self.training.step, self.run.plan.steps
        self.teller.say(
            f"stopped: step {step} of {steps} is saved; to go on: {self.run.request.command}"
        )
        self.signals.number = number
        self.signals.deliver()
