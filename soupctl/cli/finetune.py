"""`soupctl finetune`: words in, a run of training for each data shard, words out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..choices import SaveDtype
from ..errors import UsageError
from . import options as shared
from . import training_options as training
from .training_run import merged, run_training, words_of


def finetune(
    base: training.Base,
    data: training.Data = None,
    output: training.Output = None,
    config: training.Config = None,
    steps: training.Steps = None,
    epochs: training.Epochs = None,
    batch_size: training.BatchSize = None,
    grad_accum: training.GradAccum = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.  [1e-5]")] = None,
    lr_schedule: training.LrSchedule = None,
    resolution: training.Resolution = None,
    cond_drop: training.CondDrop = None,
    precision: training.ComputesIn = None,
    ema: Annotated[
        bool | None, typer.Option("--ema/--no-ema", help="Use the mean of the weights.  [ema]")
    ] = None,
    save_every: training.SaveEvery = None,
    sample_every: training.SampleEvery = None,
    prompt: training.Prompt = None,
    save_dtype: Annotated[
        SaveDtype | None, typer.Option(help="Dtype of the result.  [float32]")
    ] = None,
    seed: training.Seed = None,
    skip_bad: training.SkipBad = None,
    resume: training.Resume = "auto",
    dry_run: shared.DryRun = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Train a base on a folder of images: one ingredient for a soup, or one for each folder.

    The same command goes on with a run that was interrupted.

    Example: soupctl finetune base --data 'shards/*' -o 'runs/{name}' --steps 1000
    """
    given = locals()
    from ..training.options import Options, read_config

    if not data or output is None:
        raise UsageError("what to train on and where to are both needed", advice="--data, -o")
    options = Options(**merged({} if config is None else read_config(config), given, Options))
    words = words_of(dry_run, json, quiet, verbose)
    run_training(Path(base), data, output, options, resume, words)
