"""Runs of training from the command line: planned, told of and made, whatever is trained."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import counted, put, put_json, say, size_text
from .training_console import teller

if TYPE_CHECKING:
    from ..training.bank_options import PatchOptions
    from ..training.options import Options
    from ..training.plan import RunPlan
    from ..training.trainer import Trained


def words_of(dry_run: bool, json: bool, quiet: bool, verbose: bool) -> Words:
    """What this process tells: of several, the first one speaks."""
    first = os.environ.get("RANK", "0") == "0"
    return Words(dry_run, json and first, quiet or not first, verbose)


def merged(read: Mapping[str, Any], given: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Fields of `kind` as a config has them, and over them what the command line was given.

    There, None stands for an option that was not given, and what is no field is of no concern.
    """
    names = [each.name for each in dataclasses.fields(kind)]
    chosen = {name: read[name] for name in names if name in read}
    if any(given.get(name) is not None for name in ("steps", "epochs")):
        # one on the command line takes the place of either in the config
        chosen = {name: chosen[name] for name in chosen if name not in {"steps", "epochs"}}
    for name in names:
        value = given.get(name)
        if value is not None:
            chosen[name] = tuple(value) if isinstance(value, list) else value
    return chosen


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
    """What is told, and how."""

    dry_run: bool
    json: bool
    quiet: bool
    verbose: bool


def run_training(
    base: Path,
    data: list[str],
    output: str,
    options: Options,
    resume: str,
    words: Words,
    patch: PatchOptions | None = None,
) -> None:
    """Plan all runs, and then train them one after the other: denoisers, or banks for `patch`."""
    from ..diffusion.libraries import require_extra
    from ..training.data_shards import expanded, outputs_of

    require_extra()
    from ..training.distributed import start_accelerator
    from ..training.setup import RunRequest, prepare
    from ..training.train_bank import patch_dmp
    from ..training.trainer import finetune

    shards = expanded(data)
    command = shlex.join(["soupctl", *sys.argv[1:]])
    accelerator = start_accelerator(options)
    requests = [
        RunRequest(base, shard, place, options, resume, command, patch)
        for shard, place in zip(shards, outputs_of(shards, output), strict=True)
    ]
    runs = prepare(requests, accelerator)
    if words.dry_run:
        _show_plans([run.plan for run in runs], words.json)
        return
    train, kind = (finetune, "model") if patch is None else (patch_dmp, "bank")
    done = []
    for run in runs:
        for line in _plan_lines(run.plan):
            say(line, words.quiet)
        trained = train(run, teller(words.quiet, words.verbose))
        _tell_trained(trained, kind, words.quiet)
        done.append(trained)
    # several processes talk to each other until the last run has ended
    accelerator.end_training()
    if words.json:
        put_json([_trained_json(each, kind) for each in done])


def _show_plans(plans: list[RunPlan], json: bool) -> None:
    """The plans, as data on stdout: they are what was asked for."""
    if json:
        put_json(
            [{**dataclasses.asdict(plan), "global_batch": plan.global_batch} for plan in plans]
        )
        return
    for plan in plans:
        for line in _plan_lines(plan):
            put(line)


def _plan_lines(plan: RunPlan) -> Iterator[str]:
    told = [counted(plan.captions, "caption")] if plan.captions else []
    told += [f"{plan.classes} classes"] if plan.classes else []
    batch = f"{plan.batch_size} x {plan.grad_accum} x {plan.processes}"
    yield f"base       {plan.base} ({plan.class_name}, {plan.prediction})"
    yield f"data       {plan.data}: {', '.join([counted(plan.images, 'image'), *told])}"
    yield f"           {plan.data_digest}"
    for notice in plan.notices:
        yield f"           {notice}"
    yield f"output     {plan.output}"
    yield f"steps      {plan.steps} ({plan.epochs:.3g} epochs)"
    yield f"batch      {plan.global_batch} images (micro x accumulated x processes: {batch})"
    yield f"resolution {plan.resolution}"
    yield f"parameters {plan.trained:,} trained, {plan.frozen:,} frozen"
    yield f"device     {plan.device}, {plan.precision}"
    disk = (
        f"checkpoints of {size_text(plan.checkpoint_bytes)}, result {size_text(plan.model_bytes)}"
    )
    if plan.latents_bytes:
        disk += f", latents {size_text(plan.latents_bytes)}"
    yield f"disk       {size_text(plan.disk_bytes)} ({disk})"


def _tell_trained(trained: Trained, kind: str, quiet: bool) -> None:
    if trained.was_complete:
        say(f"{trained.output}: already complete", quiet)
    else:
        say(f"{trained.output}/{kind}: {counted(trained.steps, 'step')}, {trained.digest}", quiet)


def _trained_json(trained: Trained, kind: str) -> dict[str, Any]:
    return {
        "output": str(trained.output),
        kind: str(trained.output / kind),
        "steps": trained.steps,
        "digest": trained.digest,
        "was_complete": trained.was_complete,
    }
