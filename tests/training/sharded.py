"""Runs with sharded weights, under FSDP or DeepSpeed, and unsharded runs; started as two processes.

accelerate offers both where there is an accelerator, and only there. All that they do then works on
a CPU as well, so that accelerate's state alone is a fake here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import accelerate
import running

from soupctl.training.deepspeed_engine import configure_deepspeed

SHARING = {
    "fsdp_version": 2,
    "auto_wrap_policy": "transformer_based_wrap",
    "transformer_cls_names_to_wrap": ["ResnetBlock2D"],
}


def start(how: str, **options: object) -> tuple[Any, Any]:
    """Options, and what accelerate is for them: `fsdp`, `zero2`, `zero3`, or neither."""
    processes = accelerate.PartialState(cpu=True)
    processes.distributed_type = accelerate.DistributedType.MULTI_CPU
    accelerate.state.AcceleratorState._reset_state()
    chosen = running.Options(**{**running.SHORT, "ema": False, **options})
    accelerator = running.start_accelerator(chosen)
    kind = accelerate.DistributedType.FSDP if how == "fsdp" else None
    if how == "fsdp":
        accelerator.state.fsdp_plugin = accelerate.FullyShardedDataParallelPlugin(**SHARING)
    elif how:
        kind = accelerate.DistributedType.DEEPSPEED
        use_deepspeed(accelerator, int(how.removeprefix("zero")))
    for state in (accelerator.state, processes):
        state.distributed_type = kind or state.distributed_type
    if kind is accelerate.DistributedType.DEEPSPEED:
        configure_deepspeed(accelerator, chosen)
    return chosen, accelerator


def use_deepspeed(accelerator: Any, stage: int) -> None:
    """Give accelerate's state a plug-in for DeepSpeed, whose processes are those of torch."""
    # an optional library
    import deepspeed  # noqa: PLC0415

    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    plugin = accelerate.DeepSpeedPlugin(zero_stage=stage)
    plugin.set_mixed_precision("no")
    accelerator.state.deepspeed_plugins = {"default": plugin}
    plugin.select(_from_accelerator_state=True)
    accelerator.deepspeed_engine_wrapped = None


def run(base: Path, data: Path, output: Path, how: str, resume="auto", **options) -> None:
    chosen, accelerator = start(how, **options)
    request = running.RunRequest(base, data, output, chosen, resume)
    (prepared,) = running.prepare([request], accelerator)
    running.finetune(prepared, running.ReporterSpy())


def main(how: str, *places: str) -> None:
    base, data, out = map(Path, places)
    more = {"save_every": 2, "sample_every": 4, "sample_steps": 2}
    run(base, data, out / "straight", how, **more)
    run(base, data, out / "resumed", how, **{**more, "steps": 2})
    run(base, data, out / "resumed", how, **more)
    run(base, data, out / "whole", "", **more)
    if how == "fsdp":
        halfway = str(out / "straight" / "checkpoints" / "step-000002")
        run(base, data, out / "made whole", "", halfway, **more)


if __name__ == "__main__":
    main(*sys.argv[1:])
