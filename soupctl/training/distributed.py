"""The processes of a run, as accelerate starts them, and weights that they hold in parts.

Rule 1: where one process may fail while others wait for it, they learn of it, and all leave.
Rule 2: to gather tensors, every process calls, in the same order; whole tensors pass unchanged.
Rule 3: the options hold, whatever DeepSpeed's configuration says of the same thing.
Rule 4: DeepSpeed's checkpoints are pickles, opened only where a manifest of ours lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers
from torch.distributed.tensor import DTensor, distribute_tensor

from ..choices import Optimizer, Precision, Tracker
from ..errors import Issue, LimitError, TrainingError, UsageError
from .options import Options

STATE = "deepspeed"
"""The folder within a checkpoint."""
NARROW = ("bf16", "fp16")


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


def is_fsdp(accelerator: Any) -> bool:
    """Whether FSDP shares out weights and optimizer."""
    return bool(accelerator.distributed_type == accelerate.DistributedType.FSDP)


def in_parts(accelerator: Any) -> bool:
    """Whether each process holds a part of every weight."""
    return is_fsdp(accelerator) or (is_deepspeed(accelerator) and stage(accelerator) == 3)


def whole_weights(model: Any, accelerator: Any) -> Mapping[str, torch.Tensor]:
    """The weights of a wrapped model: its own ones, or for the main process what they make up."""
    if in_parts(accelerator) and is_deepspeed(accelerator):
        return accelerator.get_state_dict(model) or {}
    return gathered(accelerator.unwrap_model(model).state_dict(), accelerator)


def whole(tensor: torch.Tensor, accelerator: Any) -> torch.Tensor:
    """A tensor, put together from the parts of all processes."""
    if not isinstance(tensor, DTensor):
        return tensor
    # what is offloaded waits on the CPU, where the processes may have no words with each other
    return tensor.detach().to(accelerator.device).full_tensor()


def gathered(tensors: Mapping[str, torch.Tensor], accelerator: Any) -> dict[str, torch.Tensor]:
    """The tensors, put together on the CPU of the main process; the others keep nothing of it."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor, accelerator)
        if not isinstance(tensor, DTensor):
            found[name] = tensor
        elif accelerator.is_main_process:
            found[name] = full.cpu()
    return found


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor."""
    if isinstance(tensor, DTensor):
        return tensor.detach().to_local()
    # where DeepSpeed has parts, the tensor itself is empty
    return getattr(tensor, "ds_tensor", tensor)


def shared_out(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, in parts if the one `like` which it is going to be is."""
    if not isinstance(like, DTensor):
        return tensor
    mesh = like.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, like.placements).to(like.device)


def is_deepspeed(accelerator: Any) -> bool:
    """Whether DeepSpeed owns model and optimizer."""
    return bool(accelerator.distributed_type == accelerate.DistributedType.DEEPSPEED)


def stage(accelerator: Any) -> int:
    """The stage of ZeRO: from 1 on the optimizer is in parts, in 3 the weights are as well."""
    return int(accelerator.state.deepspeed_plugin.zero_stage)


def set_up(accelerator: Any, options: Options) -> None:
    """Give DeepSpeed the run's options; UsageError if it would train weights of 16 bits."""
    config = accelerator.state.deepspeed_plugin.deepspeed_config
    for name in NARROW:
        if config.get(name, {}).get("enabled") is True:
            what = f"DeepSpeed's {name} would round the weights, which are trained in float32"
            advice = "its torch_autocast computes in 16 bits alone, with --precision no"
            raise UsageError(what, advice=advice)
    config["train_micro_batch_size_per_gpu"] = options.batch_size
    config["gradient_accumulation_steps"] = options.grad_accum
    config["gradient_clipping"] = options.max_grad_norm
    if stage(accelerator) == 3:
        # weights are as wide as they are trained, whatever the name says
        config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True


def leave_loading_alone(accelerator: Any) -> None:
    """Have transformers load models whole, also where DeepSpeed is going to share out another."""
    if is_deepspeed(accelerator):
        transformers.integrations.unset_hf_deepspeed_config()


def save_engine(engine: Any, accelerator: Any, folder: Path | None) -> dict[str, int]:
    """The sizes of the files by name that the processes write to the main one's folder."""
    places = [None if folder is None else str(folder)]
    accelerate.utils.broadcast_object_list(places)
    engine.save_checkpoint(str(places[0]), tag=STATE, save_latest=False)
    accelerator.wait_for_everyone()
    if folder is None:
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _sync(path, os.O_RDONLY)
    for place in {path.parent for path in files}:
        _sync(place, os.O_RDONLY | os.O_DIRECTORY)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _sync(path: Path, how: int) -> None:
    fd = os.open(path, how)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def restore_engine(engine: Any, folder: Path) -> None:
    """Put DeepSpeed back to where a checkpoint was made; ValueError if it finds none."""
    found, _ = engine.load_checkpoint(str(folder), tag=STATE)
    if found is None:
        raise ValueError("DeepSpeed finds nothing of its own there")
