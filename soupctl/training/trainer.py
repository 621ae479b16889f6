"""Train one ingredient: the whole denoiser of a base, on one data shard.

Rule 1: a run is the same whether or not it was interrupted, and however often.
Rule 2: what a run ends with is published before the record says that it is finished.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..banks.load import BANK
from ..diffusion.base import MODEL
from ..diffusion.loading import Models, load_models
from ..errors import OutputError
from ..storage.files import require_room
from .callbacks import Callbacks, Reporter
from .checkpoint import TrainingCheckpoint, newest, read, restore, sweep
from .distributed import connected, leave_loading_alone, together
from .loop import LoopState, Loss, train
from .metrics import rewind
from .publish import facts_of, publish
from .run_record import RunRecord, read_record, require_same_run, write_record
from .sample_grids import GridSampler
from .setup import Prepared
from .signals import deferred_signals
from .trackers import tracked
from .train_denoiser import batches_from, begin, loss_of

AUTO, NEVER = "auto", "never"


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a run."""

    output: Path
    steps: int
    """Those that what is there was trained for."""
    was_complete: bool
    """Whether it had been finished before, and nothing was done."""
    digest: str
    """Content digest of the denoiser's weights."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained in a run: how that begins, what is lost, and how it is published."""

    begin: Callable[[Prepared, Models], LoopState]
    loss_of: Callable[[Prepared, Models, LoopState], Loss]
    publish: Callable[[Prepared, LoopState, Reporter], str]


WHOLE = Subject(begin, lambda run, models, _training: loss_of(run, models), publish)
"""The whole denoiser."""


def finetune(run: Prepared, teller: Reporter, subject: Subject = WHOLE) -> Trained:
    """Train, or go on training, and publish what came of it.

    Raises SoupError for whatever stands in the way; see Callbacks.after for what stops training.
    """
    out, accelerator = run.request.output, run.accelerator
    with connected(), ExitStack() as held:
        with together(accelerator):
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(out, accelerator))
            record = _own_record(run)
            if record is not None and _is_complete(record, run):
                return Trained(out, record.facts["steps"], True, record.facts["weights"])
            checkpoint = _checkpoint(run, teller)
        with together(accelerator):
            if accelerator.is_main_process:
                _make_ready(run, checkpoint)
            leave_loading_alone(accelerator)
            models = load_models(run.base)
        training = subject.begin(run, models)
        if checkpoint is not None:
            restore(training, checkpoint)
        loss = subject.loss_of(run, models, training)
        _make_steps(run, models, training, checkpoint, teller, loss)
        with together(accelerator):
            digest = subject.publish(run, training, teller)
        # the next data shard, if there is one, begins with an empty device
        accelerator.free_memory()
        return Trained(out, run.plan.steps, False, digest)


def _make_ready(run: Prepared, checkpoint: TrainingCheckpoint | None) -> None:
    """Make the run's folder such that steps after the checkpoint can be written there."""
    out = run.request.output
    sweep(out)
    require_space(run)
    rewind(out, checkpoint.step if checkpoint else 0)
    write_record(out, RunRecord(run.identity, False, facts_of(run)))


@contextmanager
def _locked(out: Path, accelerator: Any) -> Iterator[None]:
    """Keep other runs out of the folder, which the main process does for all of its own."""
    if not accelerator.is_main_process:
        yield
        return
    fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError("another run is writing here", path=out) from None
        yield
    finally:
        os.close(fd)


def _own_record(run: Prepared) -> RunRecord | None:
    """The record of this very run, if it was begun before.

    Raises OutputError for a folder that holds another run, or something else.
    """
    out = run.request.output
    record = read_record(out)
    if record is None:
        if any(not path.name.startswith(".") for path in out.iterdir()):
            raise OutputError("is not empty, and holds no run", path=out, advice="choose another")
        return None
    if run.request.resume == NEVER:
        advice = "choose another output, or --resume auto to go on"
        raise OutputError("holds a run already", path=out, advice=advice)
    require_same_run(out, record.identity, run.identity)
    return record


def _is_complete(record: RunRecord, run: Prepared) -> bool:
    # what a person took away since then is made again
    is_there = (run.request.output / (MODEL if run.bank is None else BANK)).is_dir()
    return record.finished and is_there and record.facts["steps"] >= run.plan.steps


def _checkpoint(run: Prepared, teller: Reporter) -> TrainingCheckpoint | None:
    """The checkpoint to go on from; None to begin at the beginning."""
    out, resume = run.request.output, run.request.resume
    if resume in {AUTO, NEVER}:
        found, passed = newest(out)
        for each in passed:
            teller.say(f"passed over: {each}")
    else:
        found = read(Path(resume))
    if found is None:
        return None
    require_same_run(found.path, found.identity, run.identity)
    if found.step > run.plan.steps:
        what = f"is at step {found.step} already, and {run.plan.steps} are asked for"
        raise OutputError(what, path=found.path, advice="--steps")
    teller.say(f"going on from {found.path}")
    return found


def require_space(run: Prepared) -> None:
    """Raise OutputError if the disk has no room for checkpoints and result."""
    out, plan = run.request.output, run.plan
    # what an earlier start left is there already
    used = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    advice = "a smaller keep in --config needs less"
    require_room(out, plan.disk_bytes, folder=out, reusable=used, advice=advice)


def _make_steps(
    run: Prepared,
    models: Models,
    training: LoopState,
    checkpoint: TrainingCheckpoint | None,
    teller: Reporter,
    loss: Loss,
) -> None:
    """Train to the last step, or until a signal."""
    options, plan = run.options, run.plan
    painter = GridSampler(run, models)
    batches = batches_from(run, models, training.step)
    with tracked(run, training.step, teller), deferred_signals() as signals:
        watch = Callbacks(run, training, teller, painter, signals, run.identity)
        if checkpoint is not None:
            watch.resumed(checkpoint.step)
        elif options.sample_every:
            watch.sample()
        teller.begin(training.step, plan.steps)
        try:
            for made in train(training, options, plan.steps, batches, loss):
                watch.after(made)
        finally:
            teller.end()
