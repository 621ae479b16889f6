"""Runs of several data shards that workers train, each a run of its own.

Rule 1: a run whose worker dies is resumed by another from its last checkpoint.
Rule 2: a worker sums with as many threads as this process would, which round as they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..cluster.calls import CallNeeds
from ..cluster.workers import Workers
from ..frozen import frozen

if TYPE_CHECKING:
    from .setup import RunRequest
    from .trainer import TrainedRun


@frozen
class ShardTask:
    """A run that a worker trains."""

    request: RunRequest
    threads: int
    """The threads of torch on the CPU."""


def train_on_workers(
    workers: Workers, requests: Sequence[RunRequest]
) -> Iterator[tuple[int, TrainedRun]]:
    """The index of each run and its result, as they end; each has a GPU, if there are any.

    Without GPUs, each has as many cores as this process has threads. Raises what training raises.
    """
    import torch

    threads = torch.get_num_threads()
    needs = (
        CallNeeds(devices=1, is_fresh=True)
        if workers.devices
        else CallNeeds(threads, is_fresh=True)
    )
    tasks = [ShardTask(request, threads) for request in requests]
    yield from workers.call(train_shard, tasks, lambda each: str(each.request.output), needs)


def train_shard(task: ShardTask) -> TrainedRun:
    """On a worker: the result of one run of `finetune`, which says nothing meanwhile."""
    import torch

    from .commands import QuietReporter
    from .distributed import start_accelerator
    from .setup import prepare
    from .trainer import finetune

    torch.set_num_threads(task.threads)
    accelerator = start_accelerator(task.request.options)
    (run,) = prepare([task.request], accelerator)
    found = finetune(run, QuietReporter())
    accelerator.end_training()
    return found
