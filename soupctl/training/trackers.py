"""Metrics for TensorBoard or Weights & Biases, through accelerate, beside `metrics.jsonl`.

Rule 1: a tracker writes only to the run's folder.
Rule 2: a tracker ends with its run, however that ends; the next run starts its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..choices import Tracker
from ..errors import LimitError
from .callbacks import Reporter
from .distributed import wait_for_all
from .setup import PreparedRun

NAMES = {Tracker.TENSORBOARD: "tensorboard", Tracker.WANDB: "soupctl"}
"""The project name: TensorBoard's folder in the run's folder, the project at W&B."""


@contextmanager
def tracking(run: PreparedRun, step: int, reporter: Reporter) -> Iterator[None]:
    """Send the metrics of steps after `step` to the chosen tracker, if any, while the block lasts.

    Raises LimitError if the tracker cannot start, for example without an API key.
    """
    accelerator, kind = run.accelerator, run.options.log_with
    if kind is Tracker.NONE:
        yield
        return
    with wait_for_all(accelerator):
        if accelerator.is_main_process:
            reporter.say(f"{kind.value}: {_start(run, step)}")
    try:
        yield
    except BaseException:
        _end(accelerator, 1)
        raise
    _end(accelerator, 0)


def _start(run: PreparedRun, step: int) -> str:
    """Start the tracker; returns the URL or the folder where its metrics are."""
    accelerator, kind = run.accelerator, run.options.log_with
    out, whole = run.request.output, str(run.request.output.absolute())
    accelerator.project_configuration.logging_dir = whole
    # soupctl reports its URL, unless --quiet is given
    os.environ.setdefault("WANDB_SILENT", "true")
    more: dict[str, dict[str, Any]] = {
        # hides the metrics of an earlier start for steps that are now repeated
        "tensorboard": {"purge_step": step + 1},
        # continues a run that was interrupted
        "wandb": {"dir": whole, "name": Path(whole).name, "resume": "auto"},
    }
    # TensorBoard would add a folder of options for each start; they are in the record anyway
    options = dict(run.identity) if kind is Tracker.WANDB else None
    try:
        accelerator.init_trackers(NAMES[kind], options, more)
    except OSError:
        raise
    except Exception as error:  # each library raises its own errors
        accelerator.trackers.clear()
        reason = str(error).strip().partition("\n")[0]
        raise LimitError(f"{kind.value} cannot start: {reason}", path=out) from error
    (tracker,) = accelerator.trackers
    is_online = not getattr(tracker.tracker, "offline", True)
    return str(tracker.tracker.url if is_online else out / kind.value)


def _end(accelerator: Any, code: int) -> None:
    for tracker in accelerator.trackers:
        if tracker.name == Tracker.WANDB:
            # accelerate would report every run as successful
            tracker.tracker.finish(code)
        else:
            tracker.finish()
    accelerator.trackers.clear()
