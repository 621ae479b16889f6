"""The processes of a run: what accelerate makes of the machine, and of whoever started it."""

from __future__ import annotations

import os
from typing import Any

import accelerate
import torch

from ..errors import LimitError
from .choices import Precision, Tracker
from .libraries import require_libraries
from .options import Options


def start_accelerator(options: Options) -> Any:
    """What accelerate found: devices, processes, precision; LimitError for what is not to be had.

    One process, or one of those that `accelerate launch` or `torchrun` started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # what an earlier caller in this process asked for is no longer wanted
        accelerate.state.AcceleratorState._reset_state()  # noqa: SLF001
    require_libraries(options)
    try:
        accelerator = accelerate.Accelerator(
            # of torchrun's processes, accelerate would otherwise take each for the only one
            cpu=not torch.accelerator.is_available(),
            gradient_accumulation_steps=options.grad_accum,
            mixed_precision=options.precision.value,
            log_with=None if options.log_with is Tracker.NONE else options.log_with.value,
            # some trackers want a folder here, and each run gives them its own
            project_dir=os.curdir,
        )
    except (ValueError, ImportError) as error:
        advice = "--precision bf16 or no" if options.precision is Precision.FP16 else None
        raise LimitError(str(error).strip().splitlines()[0], advice=advice) from error
    kind = accelerator.distributed_type
    sharded = (accelerate.DistributedType.FSDP, accelerate.DistributedType.DEEPSPEED)
    if kind in sharded:
        raise LimitError(
            f"{kind.value} is not supported yet: the weights are in parts",
            advice="choose plain data-parallel training in accelerate's configuration",
        )
    return accelerator
