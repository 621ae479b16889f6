"""`soupctl finetune`: words in, a run of training for each data shard, words out."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..training.choices import Precision, SaveDtype, Schedule
from . import options as shared
from .render import counted, put, put_json, say, size_text
from .telling import teller

if TYPE_CHECKING:
    from ..training.finetune import Trained
    from ..training.options import Options
    from ..training.plans import Plan


def finetune(
    base: Annotated[str, typer.Argument(help="A local diffusers folder.", metavar="BASE")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="A folder of images; a quoted pattern is several.", metavar="DIR"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Where the run goes; {name} is the data's.", metavar="DIR"
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="More options, in TOML.", metavar="FILE")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data instead.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images of a forward pass of a process.  [4]")
    ] = None,
    grad_accum: Annotated[
        int | None, typer.Option(help="Forward passes of an optimizer step.  [1]")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.  [1e-5]")] = None,
    lr_schedule: Annotated[
        Schedule | None, typer.Option(help="How it goes on.  [constant]")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images in pixels.  [the base's]")
    ] = None,
    cond_drop: Annotated[
        float | None, typer.Option(help="Share of captions or classes left out.  [0.1]")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="What the denoiser computes in.  [no: fp32]")
    ] = None,
    ema: Annotated[
        bool | None, typer.Option("--ema/--no-ema", help="Use the mean of the weights.  [ema]")
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints.  [500]")
    ] = None,
    sample_every: Annotated[int | None, typer.Option(help="Steps between sample grids.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What the grids show.", metavar="TEXT")
    ] = None,
    save_dtype: Annotated[
        SaveDtype | None, typer.Option(help="Dtype of the result.  [float32]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn.  [0]")] = None,
    skip_bad: Annotated[
        bool | None, typer.Option("--skip-bad", help="Leave bad images out.")
    ] = None,
    resume: Annotated[
        str, typer.Option(help="auto, never, or a checkpoint's folder.", metavar="WHAT")
    ] = "auto",
    dry_run: shared.DryRun = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Train a base on a folder of images: one ingredient for a soup, or one for each folder.

    The same command goes on with a run that was interrupted.

    Example: soupctl finetune base --data 'shards/*' -o 'runs/{name}' --steps 1000
    """
    given = {
        "steps": steps,
        "epochs": epochs,
        "batch_size": batch_size,
        "grad_accum": grad_accum,
        "lr": lr,
        "lr_schedule": lr_schedule,
        "resolution": resolution,
        "cond_drop": cond_drop,
        "precision": precision,
        "ema": ema,
        "save_every": save_every,
        "sample_every": sample_every,
        "prompt": tuple(prompt) if prompt else None,
        "save_dtype": save_dtype,
        "seed": seed,
        "skip_bad": skip_bad,
    }
    from ..training.options import Options, read_config

    if not data or output is None:
        raise UsageError("what to train on and where to are both needed", advice="--data, -o")
    chosen = {} if config is None else read_config(config)
    chosen |= {name: value for name, value in given.items() if value is not None}
    if steps is not None or epochs is not None:
        # one on the command line takes the place of either in the config
        chosen |= {"steps": steps, "epochs": epochs}
    options = Options(**chosen)
    # of several processes, the first one speaks
    first = os.environ.get("RANK", "0") == "0"
    words = _Words(dry_run, json and first, quiet or not first, verbose)
    _run(Path(base), data, output, options, resume, words)


@dataclasses.dataclass(frozen=True, slots=True)
class _Words:
    """What is told, and how."""

    dry_run: bool
    json: bool
    quiet: bool
    verbose: bool


def _run(
    base: Path, data: list[str], output: str, options: Options, resume: str, words: _Words
) -> None:
    """Plan all runs, and then train them one after the other."""
    from ..training.extra import require_extra
    from ..training.several import expanded, outputs_of

    require_extra()
    from ..training.finetune import finetune as train
    from ..training.preparation import Request, prepare, start_accelerator

    shards = expanded(data)
    command = shlex.join(["soupctl", *sys.argv[1:]])
    accelerator = start_accelerator(options)
    runs = [
        prepare(Request(base, shard, place, options, resume, command), accelerator)
        for shard, place in zip(shards, outputs_of(shards, output), strict=True)
    ]
    if words.dry_run:
        _show_plans([run.plan for run in runs], words.json)
        return
    done = []
    for run in runs:
        for line in _plan_lines(run.plan):
            say(line, words.quiet)
        trained = train(run, teller(words.quiet, words.verbose))
        _tell_trained(trained, words.quiet)
        done.append(trained)
    if words.json:
        put_json([_trained_json(each) for each in done])


def _show_plans(plans: list[Plan], json: bool) -> None:
    """The plans, as data on stdout: they are what was asked for."""
    if json:
        put_json(
            [{**dataclasses.asdict(plan), "global_batch": plan.global_batch} for plan in plans]
        )
        return
    for plan in plans:
        for line in _plan_lines(plan):
            put(line)


def _plan_lines(plan: Plan) -> Iterator[str]:
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
    yield f"disk       {size_text(plan.disk_bytes)} ({disk})"


def _tell_trained(trained: Trained, quiet: bool) -> None:
    if trained.was_complete:
        say(f"{trained.output}: already complete", quiet)
    else:
        say(f"{trained.output}/model: {counted(trained.steps, 'step')}, {trained.digest}", quiet)


def _trained_json(trained: Trained) -> dict[str, Any]:
    return {
        "output": str(trained.output),
        "model": str(trained.output / "model"),
        "steps": trained.steps,
        "digest": trained.digest,
        "was_complete": trained.was_complete,
    }
