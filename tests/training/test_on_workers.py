"""Data shards that workers train: the same weights as those that one process trains."""

from __future__ import annotations

from pathlib import Path

import torch
from inline_workers import InlineWorkers

from soupctl import verbs
from soupctl.training.on_workers import train_on_workers
from soupctl.training.options import FINETUNE


class NarrowWorkers(InlineWorkers):
    """Have one thread until a call asks for more, as workers of Ray do."""

    def call(self, *values, **more):
        """The results, as they come."""
        torch.set_num_threads(1)
        return super().call(*values, **more)


def test_workers_use_the_threads_of_the_command(tiny, running, bases, tmp_path, monkeypatch):
    shard = tiny.captioned_shard(tmp_path / "x", count=2)
    (options,) = FINETUNE.built({}, {"steps": 1, "batch_size": 2, "resolution": 16})
    request = running.RunRequest(bases["text"], shard, tmp_path / "run", options)
    threads = torch.get_num_threads()
    used = []
    prepare = running.prepare
    monkeypatch.setattr(
        "soupctl.training.setup.prepare",
        lambda *given: used.append(torch.get_num_threads()) or prepare(*given),
    )
    try:
        torch.set_num_threads(3)
        dict(train_on_workers(NarrowWorkers(), [request]))
    finally:
        torch.set_num_threads(threads)
    assert used == [3]


def test_workers_train_the_weights_that_one_process_trains(tiny, running, bases, tmp_path):
    given = {"steps": 2, "batch_size": 2, "resolution": 16}
    shards = [tiny.captioned_shard(tmp_path / name, count=n) for name, n in (("x", 2), ("y", 3))]
    alone = [
        verbs.finetune(bases["text"], shard, tmp_path / f"alone-{shard.name}", **given)
        for shard in shards
    ]
    (options,) = FINETUNE.built({}, given)
    requests = [
        running.RunRequest(bases["text"], shard, tmp_path / f"run-{shard.name}", options)
        for shard in shards
    ]
    found = dict(train_on_workers(InlineWorkers(), requests))

    assert [each.digest for each in alone] == [found[0].digest, found[1].digest]
    assert [False, False] == [found[place].was_complete for place in (0, 1)]
    assert all(Path(each.output, "model").is_dir() for each in requests)
    again = dict(train_on_workers(InlineWorkers(), requests))
    assert [True, True] == [again[place].was_complete for place in (0, 1)]
