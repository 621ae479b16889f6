"""Few files may be open: a soft limit is raised where that helps, or files are opened in turn."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from making import save_shards

INGREDIENTS, SHARDS = 5, 64
FEW = 64


@pytest.fixture
def shards(folder: Path) -> list[str]:
    """Ingredients of many shards each."""
    names = [f"model-{number}" for number in range(INGREDIENTS)]
    for number, name in enumerate(names):
        arrays = [{f"w{shard}": np.full(3, number + shard, np.float16)} for shard in range(SHARDS)]
        save_shards(Path(name), "model", *arrays)
    return names


@pytest.mark.parametrize("hard", [FEW, 4096], ids=["hard", "soft"])
def test_more_shards_than_files_may_be_open_are_averaged_and_changed(soupctl, shards, hard):
    few = {"RLIMIT_NOFILE": (FEW, hard)}
    for command in (
        ("avg", *shards, "-o", "soup", "-n"),
        ("avg", *shards, "-o", "soup", "--keep-sum"),
        ("subtract", "soup", shards[0], "-o", "rest"),
        ("verify", "rest", "--level", "rebuild"),
        *([("subtract", "soup", "--each", "-o", "without-{name}")] if hard == FEW else []),
    ):
        done = soupctl(*command, limits=few)
        assert (0, "") == (done.code, done.message), command
    assert soupctl("avg", *shards[1:], "-o", "again").code == 0
    digests = [soupctl("hash", name, limits=few).text.split()[0] for name in ("rest", "again")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("most", [6, 10, 16, 24, 32])
def test_a_limit_that_is_too_low_for_any_work_is_an_error_of_one_line(soupctl, shards, most):
    before = os.listdir()

    done = soupctl("avg", *shards[:2], "-o", "soup", limits={"RLIMIT_NOFILE": most})

    assert done.code in (0, 7), done.message
    assert len(done.message.splitlines()) == (done.code != 0)
    assert sorted([*before, *(["soup"] if done.code == 0 else [])]) == sorted(os.listdir())
