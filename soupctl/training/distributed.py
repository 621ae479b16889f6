"""The processes of a run: what accelerate makes of the machine, and of whoever started it.

Rule 1: where one process may fail while others wait for it, they learn of it, and all leave.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import accelerate
import torch

from ..choices import Optimizer, Precision, Tracker
from ..errors import Issue, LimitError, TrainingError, UsageError
from .deepspeed import is_deepspeed, set_up
from .fsdp import in_parts, is_fsdp
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
    # transformers would load a frozen model in the first process alone, and nobody share it out
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    try:
        accelerator = accelerate.Accelerator(
            # of torchrun's processes, accelerate would otherwise take each for the only one
            cpu=not torch.accelerator.is_available(),
            # a plain number would give way to what accelerate's configuration says
            gradient_accumulation_plugin=accelerate.utils.GradientAccumulationPlugin(
                num_steps=options.grad_accum
            ),
            mixed_precision=options.precision.value,
            log_with=None if options.log_with is Tracker.NONE else options.log_with.value,
            # some trackers want a folder here, and each run gives them its own
            project_dir=os.curdir,
        )
    except (ValueError, ImportError) as error:
        advice = "--precision bf16 or no" if options.precision is Precision.FP16 else None
        raise LimitError(str(error).strip().splitlines()[0], advice=advice) from error
    require_supported(accelerator)
    if is_deepspeed(accelerator):
        set_up(accelerator, options)
    return accelerator


def require_supported(accelerator: Any) -> None:
    """Raise LimitError for ways to share the work that training has no words for."""
    if is_fsdp(accelerator) and not accelerator.is_fsdp2:
        what = "FSDP of version 1 is not supported"
        raise LimitError(what, advice="fsdp_version: 2 in accelerate's configuration")


def require_whole(accelerator: Any, options: Options, *, patch: bool) -> None:
    """Raise UsageError for what cannot be had of weights, or an optimizer, in parts."""
    if not (is_fsdp(accelerator) or is_deepspeed(accelerator)):
        return
    kind, issues = "FSDP" if is_fsdp(accelerator) else "DeepSpeed", []
    if patch:
        issues.append(Issue(f"{kind} is for finetune: a bank is small, and its base is frozen"))
    if options.ema and in_parts(accelerator):
        issues.append(Issue("the mean of weights in parts is not kept", advice="--no-ema"))
    if options.optimizer is not Optimizer.ADAMW:
        what = f"optimizer = {options.optimizer.value} is not for {kind}"
        issues.append(Issue(what, advice="optimizer = adamw in --config"))
    if issues:
        raise UsageError.collected(issues)


def largest(accelerator: Any, number: int) -> int:
    """The largest of the numbers that the processes bring."""
    if accelerator.num_processes == 1:
        return number
    everyone = accelerator.gather(torch.tensor([number], device=accelerator.device))
    return int(everyone.max())


@contextmanager
def connected() -> Iterator[None]:
    """Say what is wrong when another process is gone; what is raised then is TrainingError."""
    try:
        yield
    except RuntimeError as error:
        # NCCL has an error of its own for this, and gloo none
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        advice = "the same command goes on from the last checkpoint"
        raise TrainingError("another process is gone", advice=advice) from error


@contextmanager
def together(accelerator: Any) -> Iterator[None]:
    """Wait at the end for all processes, of which each may have failed in the block.

    Raises TrainingError here if it was another one.
    """
    failed = 1
    try:
        yield
        failed = 0
    finally:
        # also on the way out, or the others would wait in vain
        anyone = largest(accelerator, failed)
    if anyone:
        raise TrainingError("stopped, because another process failed, which says why")
