"""`soupctl patch-dmp`: trains a prompt bank for each data shard."""

from __future__ import annotations

from typing import Annotated

import typer

from ..choices import Preset
from ..training.bank_options import PATCH_DMP, PRESETS
from .option_groups import Given, with_option_groups
from .training_options import Base, ReportOptions, RunOptions
from .training_run import config_options, run_training


@with_option_groups
def patch_dmp(
    base: Base,
    *,
    run: RunOptions,
    preset: Annotated[
        Preset | None,
        typer.Option(help="Start from published settings; explicit options win."),
    ] = None,
    given: Annotated[Given, PATCH_DMP],
    report: ReportOptions,
) -> None:
    """Train a prompt bank for a base, which stays unchanged: Diffusion Model Patching.

    The same command resumes a run that was interrupted.

    Example: soupctl patch-dmp base --data images -o run --steps 1000
    """
    run.require_data_and_output()
    settings = {} if preset is None else PRESETS[preset]
    patch, options = PATCH_DMP.built(settings, config_options(run, PATCH_DMP), given)
    run_training(base, run, report, options, patch)
