"""`soupctl finetune`: words in, a run of training for each data shard, words out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..training.choices import Precision, SaveDtype, Schedule
from . import options as shared
from .training import merged, run_training, words_of


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
    options = Options(**merged({} if config is None else read_config(config), given))
    words = words_of(dry_run, json, quiet, verbose)
    run_training(Path(base), data, output, options, resume, words)
