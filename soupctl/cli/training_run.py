"""Training runs from the command line: config, plan, training and reports."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..collector import collect_as_usual
from .console import counted, put, put_json, say, size_text
from .progress import steps_progress
from .training_console import reporter, status

if TYPE_CHECKING:
    from ..training.bank_options import PatchOptions
    from ..training.callbacks import Reporter
    from ..training.option_fields import CommandOptions
    from ..training.options import Options
    from ..training.plan import RunPlan
    from ..training.setup import PreparedRun, RunRequest
    from ..training.trainer import TrainedRun
    from .training_options import ReportOptions, RunOptions

    Train = Callable[[PreparedRun, Reporter], TrainedRun]


def config_options(run: RunOptions, options: CommandOptions) -> Mapping[str, Any]:
    """The options in the config file of a run, by name; empty without a config file."""
    if run.config is None:
        return {}
    from ..training.config_file import read_config

    return read_config(run.config, options.kinds)


def run_training(
    base: str,
    run: RunOptions,
    report: ReportOptions,
    options: Options,
    patch: PatchOptions | None = None,
    ray: str | None = None,
) -> None:
    """Plan all runs, then train them one after the other: models, or prompt banks if `patch`.

    With `ray`, the workers of the cluster at that address train models at the same time.
    """
    from ..diffusion.libraries import require_extra
    from ..training.data_shards import find_data_folders, output_folders

    require_extra()
    collect_as_usual()
    report = report.on_this_process()
    data, output = run.require_data_and_output()
    shards = find_data_folders(data)
    with status("Loading libraries", report.quiet):
        from ..training.distributed import start_accelerator
        from ..training.setup import prepare
        from ..training.train_bank import patch_dmp
        from ..training.trainer import finetune

        accelerator = start_accelerator(options)
    places = zip(shards, output_folders(shards, output), strict=True)
    requests = [_request(base, *each, run, options, patch) for each in places]
    with status("Reading base and data", report.quiet):
        runs = prepare(requests, accelerator)
    if report.dry_run:
        _show_plans(runs, report)
        return
    train, kind = (finetune, "model") if patch is None else (patch_dmp, "bank")
    if ray is None:
        done = _train_here(train, kind, runs, report)
    else:
        done = _train_on_workers(ray, runs, report)
    # several processes communicate until the last run has ended
    accelerator.end_training()
    if report.json:
        put_json([_trained_json(each, kind) for each in done])


def _request(
    base: str,
    shard: Path,
    output: Path,
    run: RunOptions,
    options: Options,
    patch: PatchOptions | None,
) -> RunRequest:
    """The request for the run of one data shard."""
    from ..training.setup import RunRequest

    command = shlex.join(["soupctl", *sys.argv[1:]])
    return RunRequest(
        Path(base),
        shard,
        output,
        options,
        run.resume,
        command,
        patch,
        run.variant,
        run.config_from,
    )


def _train_here(
    train: Train, kind: str, runs: Sequence[PreparedRun], report: ReportOptions
) -> list[TrainedRun]:
    """Train the runs one after the other in this process, and report each."""
    done = []
    for number, each in enumerate(runs, 1):
        shard = f"{number} of {len(runs)}" if len(runs) > 1 else ""
        _tell_plan(each.plan, shard, report.quiet)
        with status("Loading the model", report.quiet) as loaded:
            done.append(train(each, reporter(report.quiet, report.verbose, shard, loaded)))
        _tell_trained(done[-1], kind, each.plan.steps, report.quiet)
    return done


def _train_on_workers(
    ray: str, runs: Sequence[PreparedRun], report: ReportOptions
) -> list[TrainedRun]:
    """Train all runs on workers, as many at once as there are, and report them in their order."""
    from ..cluster.workers import open_workers
    from ..training.on_workers import train_on_workers

    for number, each in enumerate(runs, 1):
        _tell_plan(each.plan, f"{number} of {len(runs)}", report.quiet)
    done: dict[int, TrainedRun] = {}
    with open_workers(ray) as workers, steps_progress("runs", report.quiet) as advance:
        for place, trained in train_on_workers(workers, [each.request for each in runs]):
            done[place] = trained
            advance(len(done), len(runs))
    for place in sorted(done):
        _tell_trained(done[place], "model", runs[place].plan.steps, report.quiet)
    return [done[place] for place in sorted(done)]


def _show_plans(runs: Sequence[PreparedRun], report: ReportOptions) -> None:
    """Print the plans of runs on stdout; raises what would keep one from starting."""
    from ..training.trainer import require_startable

    for run in runs:
        require_startable(run, reporter(report.quiet, report.verbose))
    plans = [each.plan for each in runs]
    if report.json:
        put_json(
            [{**dataclasses.asdict(plan), "global_batch": plan.global_batch} for plan in plans]
        )
        return
    for plan in plans:
        for line in _plan_lines(plan):
            put(line)


def _tell_plan(plan: RunPlan, shard: str, quiet: bool) -> None:
    """Report the plan of a run; `shard` is its position among several, such as `2 of 4`."""
    if shard:
        say(f"shard      {shard}", quiet)
    for line in _plan_lines(plan):
        say(line, quiet)


def _plan_lines(plan: RunPlan) -> Iterator[str]:
    told = [counted(plan.captions, "caption")] if plan.captions else []
    told += [f"{plan.classes} classes"] if plan.classes else []
    batch = f"{plan.batch_size} x {plan.grad_accum} x {plan.processes}"
    yield f"base       {plan.base} ({plan.class_name}, {plan.prediction})"
    part = f"split {plan.split!r} of " if plan.split else ""
    yield f"data       {part}{plan.data}: {', '.join([counted(plan.images, 'image'), *told])}"
    yield f"           {plan.data_digest}"
    if plan.validation:
        yield f"           {counted(plan.validation, 'more image')} for validation"
    if plan.regularization:
        yield f"           {counted(plan.regularization, 'regularization image')}"
    for notice in plan.notices:
        yield f"           {notice}"
    yield f"output     {plan.output}"
    yield f"steps      {plan.steps} ({plan.epochs:.3g} epochs)"
    yield f"batch      {plan.global_batch} images (micro x accumulated x processes: {batch})"
    yield f"resolution {plan.resolution}"
    if plan.buckets:
        sizes = [f"{counted(count, 'image')} of {size}" for size, count in plan.buckets.items()]
        yield f"buckets    {', '.join(sizes)}"
    yield f"parameters {plan.trained:,} trained, {plan.frozen:,} frozen"
    yield f"device     {plan.device}, {plan.precision}"
    disk = (
        f"checkpoints of {size_text(plan.checkpoint_bytes)}, result {size_text(plan.model_bytes)}"
    )
    if plan.latents_bytes:
        disk += f", latents {size_text(plan.latents_bytes)}"
    if plan.texts_bytes:
        disk += f", captions {size_text(plan.texts_bytes)}"
    yield f"disk       {size_text(plan.disk_bytes)} ({disk})"


def _tell_trained(trained: TrainedRun, kind: str, asked: int, quiet: bool) -> None:
    if trained.was_complete:
        more = f", with {trained.steps} steps, not {asked}" if trained.steps != asked else ""
        say(f"{trained.output}: already complete{more}", quiet)
    else:
        say(f"{trained.output}/{kind}: {counted(trained.steps, 'step')}, {trained.digest}", quiet)


def _trained_json(trained: TrainedRun, kind: str) -> dict[str, Any]:
    return {
        "output": str(trained.output),
        kind: str(trained.output / kind),
        "steps": trained.steps,
        "digest": trained.digest,
        "was_complete": trained.was_complete,
    }
