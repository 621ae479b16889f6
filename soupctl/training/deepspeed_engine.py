"""Training with DeepSpeed: its configuration, and its part of a training checkpoint.

Rule 1: soupctl's options win over DeepSpeed's configuration.
Rule 2: DeepSpeed's checkpoints are pickles, opened only where a manifest of ours lists them.
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
"""Folder of DeepSpeed's files in a checkpoint."""
HALF_PRECISIONS = ("bf16", "fp16")


def is_deepspeed(accelerator: Any) -> bool:
    """Whether DeepSpeed manages model and optimizer."""
    return bool(accelerator.distributed_type == accelerate.DistributedType.DEEPSPEED)


def zero_stage(accelerator: Any) -> int:
    """The ZeRO stage: from 1 on the optimizer is sharded, in 3 also the weights."""
    return int(accelerator.state.deepspeed_plugin.zero_stage)


def configure_deepspeed(accelerator: Any, options: Options) -> None:
    """Set DeepSpeed's configuration from the options; UsageError if it trains 16-bit weights."""
    config = accelerator.state.deepspeed_plugin.deepspeed_config
    for name in HALF_PRECISIONS:
        if config.get(name, {}).get("enabled") is True:
            what = (
                f"DeepSpeed's {name} setting would train 16-bit weights, and soupctl trains float32"
            )
            advice = "use its torch_autocast setting, with --precision no"
            raise UsageError(what, advice=advice)
    config["train_micro_batch_size_per_gpu"] = options.batch_size
    config["gradient_accumulation_steps"] = options.grad_accum
    config["gradient_clipping"] = options.max_grad_norm
    if zero_stage(accelerator) == 3:
        # despite its name, this gathers float32 weights
        config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True


def load_models_unsharded(accelerator: Any) -> None:
    """Make transformers load full models, although DeepSpeed will shard the denoiser."""
    if is_deepspeed(accelerator):
        transformers.integrations.unset_hf_deepspeed_config()


def save_deepspeed(engine: Any, accelerator: Any, folder: Path | None) -> dict[str, int]:
    """Write DeepSpeed's files to the main process's `folder`; returns their sizes by name."""
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


def restore_deepspeed(engine: Any, folder: Path) -> None:
    """Restore DeepSpeed's state from a checkpoint; ValueError if there is none."""
    found, _ = engine.load_checkpoint(str(folder), tag=STATE)
    if found is None:
        raise ValueError("it has no files of DeepSpeed")
