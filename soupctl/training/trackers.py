"""Figures of a run for TensorBoard or Weights & Biases, by accelerate, besides `metrics.jsonl`.

Rule 1: whatever a tracker writes lies in the run's folder.
Rule 2: a tracker ends with the run, in whatever way that ends, and knows nothing of the next one.
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
from .distributed import together
from .setup import Prepared

NAMES = {Tracker.TENSORBOARD: "tensorboard", Tracker.WANDB: "soupctl"}
"""What a tracker begins with: TensorBoard's folder in the run's, the project at W&B."""


@contextmanager
def tracked(run: Prepared, step: int, teller: Reporter) -> Iterator[None]:
    """Report to the tracker that was asked for, if any, what comes after `step` in the block.

    Raises LimitError if it cannot begin, such as for want of a key.
    """
    accelerator, kind = run.accelerator, run.options.log_with
    if kind is Tracker.NONE:
        yield
        return
    with together(accelerator):
        if accelerator.is_main_process:
            teller.say(f"{kind.value}: {_begun(run, step)}")
    try:
        yield
    except BaseException:
        _end(accelerator, 1)
        raise
    _end(accelerator, 0)


def _begun(run: Prepared, step: int) -> str:
    """Where a person finds the figures of a tracker that has just begun."""
    accelerator, kind = run.accelerator, run.options.log_with
    out, whole = run.request.output, str(run.request.output.absolute())
    accelerator.project_configuration.logging_dir = whole
    # what it has to say is told below, unless nothing is to be told
    os.environ.setdefault("WANDB_SILENT", "true")
    more: dict[str, dict[str, Any]] = {
        # what an earlier start reported of steps that are made again is no longer shown
        "tensorboard": {"purge_step": step + 1},
        # a run that was not ended goes on there, too
        "wandb": {"dir": whole, "name": Path(whole).name, "resume": "auto"},
    }
    # TensorBoard keeps options in a folder of their own for each start: the record has them
    options = dict(run.identity) if kind is Tracker.WANDB else None
    try:
        accelerator.init_trackers(NAMES[kind], options, more)
    except OSError:
        raise
    except Exception as error:  # each library has errors of its own
        accelerator.trackers.clear()
        reason = str(error).strip().partition("\n")[0]
        raise LimitError(f"{kind.value} does not begin: {reason}", path=out) from error
    (tracker,) = accelerator.trackers
    is_online = not getattr(tracker.tracker, "offline", True)
    return str(tracker.tracker.url if is_online else out / kind.value)


def _end(accelerator: Any, code: int) -> None:
    for tracker in accelerator.trackers:
        if tracker.name == Tracker.WANDB:
            # accelerate calls whatever has ended a success
            tracker.tracker.finish(code)
        else:
            tracker.finish()
    accelerator.trackers.clear()
