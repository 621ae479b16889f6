"""`soupctl patch-dmp`: words in, a prompt bank trained for each data shard, words out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..banks.config import GateInput, GateKind
from ..choices import Preset
from ..errors import UsageError
from . import options as shared
from . import training_options as training
from .training_run import merged, run_training, words_of


def patch_dmp(
    base: training.Base,
    data: training.Data = None,
    output: training.Output = None,
    config: training.Config = None,
    preset: Annotated[
        Preset | None, typer.Option(help="What is not asked otherwise, as somebody has it.")
    ] = None,
    blocks: Annotated[
        str | None, typer.Option(help="Which take prompts, such as 0-3,7.  [all]")
    ] = None,
    gate: Annotated[
        GateKind | None, typer.Option(help="What the gate weighs.  [token: positions]")
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(help="Whole prompts a block of a mixture.  [8]")
    ] = None,
    gate_input: Annotated[GateInput | None, typer.Option(help="What it sees.  [time]")] = None,
    gate_topk: Annotated[
        float | None, typer.Option(help="Share of its weights that is kept.  [1]")
    ] = None,
    gate_noise: Annotated[
        bool | None, typer.Option("--gate-noise/--no-gate-noise", help="Train it noisy.  [no]")
    ] = None,
    gate_lr_scale: Annotated[
        float | None, typer.Option(help="How many times as fast it learns.  [10]")
    ] = None,
    gate_from: Annotated[
        str | None, typer.Option(help="Take this bank's gate, frozen.", metavar="BANK")
    ] = None,
    balance: Annotated[
        float | None, typer.Option(help="What the gate's balance counts in the loss.  [0]")
    ] = None,
    steps: training.Steps = None,
    epochs: training.Epochs = None,
    batch_size: training.BatchSize = None,
    grad_accum: training.GradAccum = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the prompts.  [1e-4]")] = None,
    lr_schedule: training.LrSchedule = None,
    resolution: training.Resolution = None,
    cond_drop: training.CondDrop = None,
    precision: training.ComputesIn = None,
    ema: Annotated[
        bool | None, typer.Option("--ema/--no-ema", help="Use the mean of the weights.  [no-ema]")
    ] = None,
    save_every: training.SaveEvery = None,
    sample_every: training.SampleEvery = None,
    prompt: training.Prompt = None,
    seed: training.Seed = None,
    skip_bad: training.SkipBad = None,
    resume: training.Resume = "auto",
    dry_run: shared.DryRun = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Train a prompt bank for a base, which stays as it is: Diffusion Model Patching.

    The same command goes on with a run that was interrupted.

    Example: soupctl patch-dmp base --data images -o run --steps 1000
    """
    given = locals()
    from ..training.bank_options import DEFAULTS, PRESETS, PatchOptions
    from ..training.options import Options, read_config

    if not data or output is None:
        raise UsageError("what to train on and where to are both needed", advice="--data, -o")
    start = {**DEFAULTS, **({} if preset is None else PRESETS[preset])}
    read = {} if config is None else read_config(config, PatchOptions)
    patch = PatchOptions(**merged({**start, **read}, given, PatchOptions))
    options = Options(**merged({**start, **read}, given, Options))
    words = words_of(dry_run, json, quiet, verbose)
    run_training(Path(base), data, output, options, resume, words, patch)
