"""Train one ingredient, a denoiser or a prompt bank, on one dataset.

Rule 1: the result of a run is the same whether or not, and however often, it was interrupted.
Rule 2: the result is published before the record says that the run is finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..banks.load import BANK
from ..diffusion.base import MODEL
from ..diffusion.loading import Models, load_models
from ..errors import OutputError, SoupError
from ..ledger.data_shard import RECORD, DescribedImage, encode_record, read_data_record
from ..storage.atomic import publish_bytes
from ..storage.files import require_room
from .callbacks import Callbacks, Reporter
from .checkpoint import (
    TrainingCheckpoint,
    find_newest,
    read_checkpoint,
    remove_partial,
    restore_checkpoint,
)
from .deepspeed_engine import load_models_unsharded
from .distributed import peer_failures, wait_for_all
from .loop import LoopState, Loss, train
from .metrics import rewind
from .notices import first_names
from .out_of_memory import advising
from .publish import publish, run_facts
from .run_lock import locked_run
from .run_record import RunRecord, read_record, require_same_run, write_record
from .sample_grids import GridSampler, grid_prompts
from .setup import PreparedRun
from .signals import deferred_signals
from .text_cache import with_cached_texts
from .trackers import tracking
from .train_denoiser import batches_from, initial_state, loss_function
from .validation import make_validation

AUTO, NEVER = "auto", "never"


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """The result of a run."""

    output: Path
    steps: int
    """Number of steps that the result was trained for."""
    was_complete: bool
    """Whether the run had been finished before, so that nothing was done."""
    digest: str
    """Content digest of the trained weights."""


@dataclass(frozen=True, slots=True)
class Task:
    """A training task: its initial state, its loss, and how it publishes."""

    initial_state: Callable[[PreparedRun, Models], LoopState]
    loss_function: Callable[[PreparedRun, Models, LoopState], Loss]
    publish: Callable[[PreparedRun, LoopState, Reporter], str]


DENOISER = Task(initial_state, lambda run, models, _state: loss_function(run, models), publish)
"""Trains the whole denoiser."""


def finetune(run: PreparedRun, reporter: Reporter, task: Task = DENOISER) -> TrainedRun:
    """Train, or resume training, and publish the result.

    Raises the errors of `find_newest`, `load_models`, `Callbacks.after_step` and `publish`, and
    OutputError if the folder contains another run or anything else.
    """
    out, accelerator = run.request.output, run.accelerator
    with peer_failures(), ExitStack() as stack:
        with wait_for_all(accelerator):
            _require_folder(out)
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_run(out, accelerator))
            record = _earlier_record(run)
            if record is not None and _is_complete(record, run):
                return TrainedRun(out, record.facts["steps"], True, record.facts["weights"])
            checkpoint = _checkpoint_to_resume(run, reporter)
        with wait_for_all(accelerator):
            if accelerator.is_main_process:
                _prepare_folder(run, checkpoint)
            load_models_unsharded(accelerator)
        with advising(run.options, max(run.plan.resolution, *run.options.bucket_resolutions, 0)):
            models = _load(run)
            state = task.initial_state(run, models)
            if checkpoint is not None:
                restore_checkpoint(state, checkpoint)
            loss = task.loss_function(run, models, state)
            _train(run, models, state, checkpoint, reporter, loss)
        with wait_for_all(accelerator):
            digest = task.publish(run, state, reporter)
        # the next run of the same command starts with an empty device
        accelerator.free_memory()
        return TrainedRun(out, run.plan.steps, False, digest)


def _load(run: PreparedRun) -> Models:
    """The models of a run's base; with cached embeddings of texts in place of text encoders."""
    with wait_for_all(run.accelerator):
        models = load_models(run.base)
    if run.options.cache_texts:
        models = with_cached_texts(run, models, grid_prompts(run))
    return models


def require_startable(run: PreparedRun, reporter: Reporter) -> None:
    """Raise what `finetune` would raise about the run's folder, and say where it would begin.

    Nothing in the folder is changed.
    """
    out = run.request.output
    with ExitStack() as stack:
        if os.path.lexists(out):
            _require_folder(out)
            stack.enter_context(locked_run(out, run.accelerator))
            record = _earlier_record(run)
            if record is not None and _is_complete(record, run):
                reporter.say(f"{out} is already complete")
                return
        _checkpoint_to_resume(run, reporter)
    require_space(run)


def _require_folder(out: Path) -> None:
    """Raise OutputError if there is something else than a folder."""
    if os.path.lexists(out) and not out.is_dir():
        advice = "choose another output with -o"
        raise OutputError("exists, and is not a folder", path=out, advice=advice)


def _prepare_folder(run: PreparedRun, checkpoint: TrainingCheckpoint | None) -> None:
    """Prepare the run's folder for the steps after the checkpoint."""
    out = run.request.output
    remove_partial(out)
    require_space(run)
    rewind(out, checkpoint.step if checkpoint else 0)
    # before the record of the run, because a run with a record must also have its list of images
    publish_bytes(out / RECORD, encode_record(run.images), replace=True)
    write_record(out, RunRecord(run.identity, False, run_facts(run)))


def _earlier_record(run: PreparedRun) -> RunRecord | None:
    """The record of this run from an earlier start; None if this is the first.

    Raises OutputError if the folder contains another run or anything else.
    """
    out = run.request.output
    record = read_record(out)
    if record is None:
        if any(not path.name.startswith(".") for path in out.iterdir()):
            what = "is not empty and contains no run"
            raise OutputError(what, path=out, advice="choose another output with -o")
        return None
    if run.request.resume == NEVER:
        advice = "choose another output with -o, or resume it with --resume auto"
        raise OutputError("already contains this run", path=out, advice=advice)
    require_same_run(out, record.identity, run.identity, _changed_images(run))
    return record


def _changed_images(run: PreparedRun) -> str:
    """How the images differ from those that the run in the folder lists; empty if it lists none."""
    try:
        listed = {each.name: each for each in read_data_record(run.request.output / RECORD)}
    except SoupError:
        return ""
    here = {each.name: each for each in run.images}
    kinds = {
        "added": [name for name in here if name not in listed],
        "removed": [name for name in listed if name not in here],
        "changed": [name for name in here if name in listed and _differs(here, listed, name)],
    }
    told = (f"{kind}: {first_names(names)}" for kind, names in kinds.items() if names)
    return ", ".join(told)


def _differs(
    here: Mapping[str, DescribedImage], listed: Mapping[str, DescribedImage], name: str
) -> bool:
    one, other = here[name], listed[name]
    return (one.digest, one.captions, one.label) != (other.digest, other.captions, other.label)


def _is_complete(record: RunRecord, run: PreparedRun) -> bool:
    # a result that was deleted is published again
    exists = (run.request.output / (MODEL if run.bank is None else BANK)).is_dir()
    return record.finished and exists and record.facts["steps"] >= run.plan.steps


def _checkpoint_to_resume(run: PreparedRun, reporter: Reporter) -> TrainingCheckpoint | None:
    """The checkpoint to resume from; None to start at step 0."""
    out, resume = run.request.output, run.request.resume
    if resume in {AUTO, NEVER}:
        found, problems = find_newest(out)
        for problem in problems:
            reporter.say(f"skipped: {problem}")
    else:
        found = read_checkpoint(Path(resume))
    if found is None:
        return None
    require_same_run(found.path, found.identity, run.identity)
    if found.step > run.plan.steps:
        what = f"is already at step {found.step}, after the last step, {run.plan.steps}"
        raise OutputError(what, path=found.path, advice="increase --steps")
    reporter.say(f"resuming from {found.path}")
    return found


def require_space(run: PreparedRun) -> None:
    """Raise OutputError if the disk has too little space for checkpoints and result."""
    out, plan = run.request.output, run.plan
    # files of an earlier start need no additional space
    used = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    there = next(each for each in (out, *out.absolute().parents) if each.is_dir())
    advice = "free some, or set a smaller keep in --config"
    require_room(out, plan.disk_bytes, folder=there, reusable=used, advice=advice)


def _train(
    run: PreparedRun,
    models: Models,
    state: LoopState,
    checkpoint: TrainingCheckpoint | None,
    reporter: Reporter,
    loss: Loss,
) -> None:
    """Train to the last step, or until a signal arrives."""
    options, plan = run.options, run.plan
    grid_sampler = GridSampler(run, models)
    validation = make_validation(run, loss_function(run, models))
    batches = batches_from(run, models, state.step)
    with tracking(run, state.step, reporter), deferred_signals() as signals:
        callbacks = Callbacks(run, state, reporter, grid_sampler, validation, signals, run.identity)
        if checkpoint is not None:
            callbacks.resume_after(checkpoint.step)
        else:
            callbacks.validate()
            if options.sample_every:
                callbacks.draw_grid()
        reporter.begin(state.step, plan.steps)
        try:
            results = train(state, options, plan.steps, batches, loss)
            for result in results:
                callbacks.after_step(result)
        finally:
            reporter.end()
