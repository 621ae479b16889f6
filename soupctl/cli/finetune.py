"""`soupctl finetune`: trains a model for each data shard."""

from __future__ import annotations

from typing import Annotated

from ..training.options import FINETUNE
from .option_groups import Given, with_option_groups
from .options import Ray
from .training_options import Base, ReportOptions, RunOptions
from .training_run import config_options, run_training


@with_option_groups
def finetune(
    base: Base,
    *,
    run: RunOptions,
    given: Annotated[Given, FINETUNE],
    ray: Ray = None,
    report: ReportOptions,
) -> None:
    """Train a base on a folder of images: one ingredient for a soup, or one for each folder.

    The same command resumes a run that was interrupted.

    Example: soupctl finetune base --data 'shards/*' -o 'runs/{name}' --steps 1000
    """
    run.require_data_and_output()
    (options,) = FINETUNE.built(config_options(run, FINETUNE), given)
    run_training(base, run, report, options, ray=ray)
