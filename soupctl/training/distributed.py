"""The processes of a run, as accelerate starts them, and weights sharded among them.

Rule 1: if one process may fail while others wait for it, all of them are notified and stop.
Rule 2: every process must gather tensors in the same order; whole tensors pass unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import accelerate
import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from ..choices import Optimizer, Precision, Tracker, WeightDtype
from ..errors import Issue, LimitError, TrainingError, UsageError
from .deepspeed_engine import configure_deepspeed, is_deepspeed, zero_stage
from .options import Options


def start_accelerator(options: Options) -> Any:
    """The accelerator of this process: devices, processes and precision.

    There is one process, or those that `accelerate launch` or `torchrun` started. Raises LimitError
    for a device, library or precision that is not available.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # forget the settings of an earlier run in this process
        accelerate.state.AcceleratorState._reset_state()  # noqa: SLF001
    require_libraries(options)
    # otherwise transformers loads frozen models in the first process only, and never distributes
    # them
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    try:
        accelerator = accelerate.Accelerator(
            # otherwise, on a CPU, accelerate treats each process of torchrun as the only one
            cpu=not torch.accelerator.is_available(),
            # accelerate's configuration would override a plain number
            gradient_accumulation_plugin=accelerate.utils.GradientAccumulationPlugin(
                num_steps=options.grad_accum
            ),
            mixed_precision=options.precision.value,
            # SDXL uses no output of the last layer of its first text encoder
            kwargs_handlers=[
                accelerate.utils.DistributedDataParallelKwargs(
                    find_unused_parameters=options.train_text_encoder
                )
            ],
            log_with=None if options.log_with is Tracker.NONE else options.log_with.value,
            # some trackers require a folder here; each run replaces it with its own
            project_dir=os.curdir,
        )
    except (ValueError, ImportError) as error:
        advice = "--precision bf16 or no" if options.precision is Precision.FP16 else None
        raise LimitError(str(error).strip().splitlines()[0], advice=advice) from error
    require_what_was_asked(accelerator)
    require_fsdp2(accelerator)
    if is_deepspeed(accelerator):
        configure_deepspeed(accelerator, options)
    return accelerator


def require_libraries(options: Options) -> None:
    """Raise LimitError if a library that the options need is not installed."""
    if options.optimizer is Optimizer.ADAMW8BIT and find_spec("bitsandbytes") is None:
        what = "optimizer = adamw8bit needs bitsandbytes, which is not installed"
        raise LimitError(what, advice="pip install bitsandbytes")
    name = options.log_with.value
    trackers = {each.value for each in accelerate.tracking.get_available_trackers()}
    if options.log_with is not Tracker.NONE and name not in trackers:
        what = f"log-with in --config needs {name}, which is not installed"
        raise LimitError(what, advice=f"pip install {name}")


def require_what_was_asked(accelerator: Any) -> None:
    """Raise LimitError for a way of training that the launch asked for, and that is not used.

    accelerate says nothing, and trains in plain processes, for example on a CPU.
    """
    kinds = accelerate.DistributedType
    for name, title, kind in (
        ("FSDP", "FSDP", kinds.FSDP),
        ("DEEPSPEED", "DeepSpeed", kinds.DEEPSPEED),
        ("MEGATRON_LM", "Megatron-LM", None),
    ):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() != "true":
            continue
        if kind is None:
            raise LimitError(f"{title} is not supported", advice="use FSDP, DeepSpeed or neither")
        if accelerator.distributed_type != kind:
            what = f"{title} was asked for, but accelerate does not use it with these processes"
            raise LimitError(what, advice="use several GPUs, or launch without it")


def require_fsdp2(accelerator: Any) -> None:
    """Raise LimitError for FSDP of version 1."""
    if is_fsdp(accelerator) and not accelerator.is_fsdp2:
        what = "FSDP of version 1 is not supported"
        raise LimitError(what, advice="fsdp_version: 2 in accelerate's configuration")


def require_supported_options(accelerator: Any, options: Options, *, patch: bool) -> None:
    """Raise UsageError for options that several processes, FSDP or DeepSpeed do not support."""
    is_special = is_fsdp(accelerator) or is_deepspeed(accelerator)
    if is_special or accelerator.num_processes > 1:
        _require_one_process(options)
    if not is_special:
        return
    kind, issues = "FSDP" if is_fsdp(accelerator) else "DeepSpeed", []
    if patch:
        issues.append(Issue(f"{kind} works with finetune only, not with patch-dmp"))
    if options.train_text_encoder:
        what = f"--train-text-encoder does not work with {kind}"
        issues.append(Issue(what, advice="remove it, or use several plain processes"))
    if options.ema and is_sharded(accelerator):
        issues.append(Issue("EMA of sharded weights is not supported", advice="add --no-ema"))
    if options.ema_tracks and is_sharded(accelerator):
        what = "averages of sharded weights are not supported"
        issues.append(Issue(what, advice="remove --ema-tracks"))
    if options.optimizer is not Optimizer.ADAMW:
        what = f"optimizer = {options.optimizer.value} does not work with {kind}"
        issues.append(Issue(what, advice="set optimizer = adamw in --config"))
    if issues:
        raise UsageError.collected(issues)


def _require_one_process(options: Options) -> None:
    """Raise UsageError for options that only a single plain process supports."""
    given = {
        "fused-backward": options.fused_backward,
        "weight-dtype = bfloat16": options.weight_dtype is WeightDtype.BFLOAT16,
    }
    issues = [
        Issue(f"{name} works with one plain process only", advice="remove it from --config")
        for name, is_set in given.items()
        if is_set
    ]
    if issues:
        raise UsageError.collected(issues)


def max_over_processes(accelerator: Any, number: int) -> int:
    """The largest of the numbers of all processes."""
    if accelerator.num_processes == 1:
        return number
    everyone = accelerator.gather(torch.tensor([number], device=accelerator.device))
    return int(everyone.max())


@contextmanager
def peer_failures() -> Iterator[None]:
    """Raise TrainingError in place of the library's error when another process has died."""
    try:
        yield
    except RuntimeError as error:
        # NCCL raises an error class of its own for this, gloo a plain RuntimeError
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        advice = "run the same command to resume from the last checkpoint"
        raise TrainingError("another process of this run died", advice=advice) from error


@contextmanager
def wait_for_all(accelerator: Any) -> Iterator[None]:
    """Wait for all processes at the end of the block, in which any of them may fail.

    Raises TrainingError in this process if another one failed.
    """
    failed = 1
    try:
        yield
        failed = 0
    finally:
        # also while an error is handled; otherwise the others would wait forever
        anyone = max_over_processes(accelerator, failed)
    if anyone:
        raise TrainingError("stopped because another process failed; its message says why")


def is_fsdp(accelerator: Any) -> bool:
    """Whether FSDP shards weights and optimizer."""
    return bool(accelerator.distributed_type == accelerate.DistributedType.FSDP)


def is_sharded(accelerator: Any) -> bool:
    """Whether each process holds only a part of every weight."""
    return is_fsdp(accelerator) or (is_deepspeed(accelerator) and zero_stage(accelerator) == 3)


def gather_weights(model: Any, accelerator: Any) -> Mapping[str, torch.Tensor]:
    """The full weights of a wrapped model; sharded ones for the main process only."""
    if is_sharded(accelerator) and is_deepspeed(accelerator):
        return accelerator.get_state_dict(model) or {}
    return gather_on_main(accelerator.unwrap_model(model).state_dict(), accelerator)


def gather(tensor: torch.Tensor, accelerator: Any) -> torch.Tensor:
    """The full tensor, gathered from all processes if it is sharded."""
    if not isinstance(tensor, DTensor):
        return tensor
    # an offloaded tensor is on the CPU, where the processes may be unable to communicate
    return tensor.detach().to(accelerator.device).full_tensor()


def gather_on_main(
    tensors: Mapping[str, torch.Tensor], accelerator: Any
) -> dict[str, torch.Tensor]:
    """The full tensors; sharded ones are gathered on the CPU of the main process only."""
    found = {}
    for name, tensor in tensors.items():
        full = gather(tensor, accelerator)
        if not isinstance(tensor, DTensor):
            found[name] = tensor
        elif accelerator.is_main_process:
            found[name] = full.cpu()
    return found


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds."""
    if isinstance(tensor, DTensor):
        return tensor.detach().to_local()
    # with ZeRO stage 3, the tensor itself is empty
    return getattr(tensor, "ds_tensor", tensor)


def shard_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A full tensor, sharded in the same way as `like`."""
    if not isinstance(like, DTensor):
        return tensor
    mesh = like.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, like.placements).to(like.device)
