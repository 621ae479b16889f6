"""Runs with sharded weights, as under FSDP, and unsharded runs; started as two processes.

accelerate offers FSDP where there is an accelerator, and only there. All that it does then works on
a CPU as well, so that its state alone is a fake here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import accelerate
import running

SHARING = {
    "fsdp_version": 2,
    "auto_wrap_policy": "transformer_based_wrap",
    "transformer_cls_names_to_wrap": ["ResnetBlock2D"],
}


def start(*, in_parts: bool, **options: object) -> tuple[Any, Any]:
    """Options, and what accelerate is for them."""
    processes = accelerate.PartialState(cpu=True)
    processes.distributed_type = accelerate.DistributedType.MULTI_CPU
    accelerate.state.AcceleratorState._reset_state()
    chosen = running.Options(**{**running.SHORT, "ema": False, **options})
    accelerator = running.start_accelerator(chosen)
    if in_parts:
        accelerator.state.fsdp_plugin = accelerate.FullyShardedDataParallelPlugin(**SHARING)
        for state in (accelerator.state, processes):
            state.distributed_type = accelerate.DistributedType.FSDP
    return chosen, accelerator


def run(base: Path, data: Path, output: Path, resume="auto", *, in_parts=True, **options) -> None:
    chosen, accelerator = start(in_parts=in_parts, **options)
    request = running.RunRequest(base, data, output, chosen, resume)
    (prepared,) = running.prepare([request], accelerator)
    running.finetune(prepared, running.ReporterSpy())


def main(base: Path, data: Path, out: Path) -> None:
    more = {"save_every": 2, "sample_every": 4, "sample_steps": 2}
    run(base, data, out / "straight", **more)
    run(base, data, out / "resumed", **{**more, "steps": 2})
    run(base, data, out / "resumed", **more)
    run(base, data, out / "whole", in_parts=False, **more)
    halfway = str(out / "straight" / "checkpoints" / "step-000002")
    run(base, data, out / "made whole", halfway, in_parts=False, **more)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
