"""Data shards that workers train: the same weights as those that one process trains."""

from __future__ import annotations

from pathlib import Path

from inline_workers import InlineWorkers

from soupctl import verbs
from soupctl.training.on_workers import train_on_workers
from soupctl.training.options import FINETUNE


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
