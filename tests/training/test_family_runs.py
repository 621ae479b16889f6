"""Runs of each family survive a kill, and two processes agree with one."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

HALF_OF_THE_DIGITS = 2.0**-12
"""How far results in float32 may differ when sums are taken in another order in every layer."""


def weights(run: str) -> tuple[str, str | None]:
    """The content digests of what a run published."""
    record = json.loads(Path(run, "soupctl.json").read_text())
    return record["weights"], record.get("raw_weights")


@pytest.mark.parametrize(
    ("command", "family"),
    [
        *(("finetune", family) for family in ("class", "dit", "sdxl", "sd3", "flux")),
        ("patch-dmp", "flux"),
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(soupctl, bases, families, shards, command, family):
    base, data = {**bases, **families}[family], shards.get(family, shards["text"])
    words = (command, base, "--data", data, "--resolution", 8)
    words = (*words, "--steps", 3, "--save-every", 1, "--batch-size", 2, "--lr", 1e-3)
    straight = soupctl(*words, "-o", "straight")
    killed = soupctl(*words, "-o", "killed", killed_at_sync=16)

    resumed = soupctl(*words, "-o", "killed")

    ended = [each.code for each in (straight, killed, resumed)]
    assert [0, -signal.SIGKILL, 0] == ended, resumed.err
    assert "resuming from killed/checkpoints/step-00000" in resumed.err
    assert weights("straight") == weights("killed")


def rows(run: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def test_two_processes_agree_with_one_on_everything_that_they_share(soupctl, bases, shards):
    Path("run.toml").write_text('log-every = 1\noptimizer = "adafactor"\nema-on-cpu = true\n')
    words = ["finetune", bases["text"], "--data", shards["text"], "--config", "run.toml"]
    words += ["--steps", 2, "--lr", 1e-3, "--save-every", 1, "--validate", shards["text"]]
    words += ["--buckets", "--timesteps", "0:500", "--train-text-encoder", "--ema-tracks", "0.1"]
    # with buckets, the images of a batch of one process have one size
    words += ["--batch-size", 2]
    one = soupctl(*words, "-o", "one", "--grad-accum", 2)
    two = soupctl.two(*words, "-o", "two")
    assert [0, 0, 0] == [each.code for each in (one, *two)], (one, two)

    for name, columns in (
        ("metrics.jsonl", ("loss", "grad_norm")),
        ("validation.jsonl", ("validation_loss",)),
    ):
        one, two = rows(Path("one"), name), rows(Path("two"), name)
        assert [row["step"] for row in one] == [row["step"] for row in two]
        for column in columns:
            expected = [row[column] for row in one]
            found = [row[column] for row in two]
            assert expected == pytest.approx(found, rel=HALF_OF_THE_DIGITS), column
