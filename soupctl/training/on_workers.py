"""Runs of several data shards that workers train, each a run of its own.

Rule 1: a run whose worker dies is resumed by another from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..cluster import CallNeeds, Workers

if TYPE_CHECKING:
    from .setup import RunRequest
    from .trainer import TrainedRun


def train_on_workers(
    workers: Workers, requests: Sequence[RunRequest]
) -> Iterator[tuple[int, TrainedRun]]:
    """The index of each run and its result, as they end; each has a GPU, if there are any.

    Raises what training raises.
    """
    needs = CallNeeds(devices=min(workers.devices, 1), is_fresh=True)
    yield from workers.call(train_shard, requests, lambda each: str(each.output), needs)


def train_shard(request: RunRequest) -> TrainedRun:
    """On a worker: the result of one run of `finetune`, which says nothing meanwhile."""
    from .commands import QuietReporter
    from .distributed import start_accelerator
    from .setup import prepare
    from .trainer import finetune

    accelerator = start_accelerator(request.options)
    (run,) = prepare([request], accelerator)
    found = finetune(run, QuietReporter())
    accelerator.end_training()
    return found
