"""DeepSpeed, which owns model and optimizer: set up for a run, and its state kept by itself.

Rule 1: what the options say holds, whatever DeepSpeed's configuration says of the same thing.
Rule 2: its checkpoints are pickles, which are opened only where a manifest of ours lists them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import accelerate
import transformers

from ..errors import UsageError
from .options import Options

STATE = "deepspeed"
"""The folder within a checkpoint."""
NARROW = ("bf16", "fp16")


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
