"""A bank trained by two processes equals one trained by a single process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from commands import wait_for
from safetensors.torch import load_file

HALF_OF_THE_DIGITS = 2.0**-12
"""How far results in float32 may differ when sums are taken in another order in every layer."""
LONG = ("--steps", 16, "--save-every", 4)
GATES = ("--gate-noise", "--balance", 1, "--gate-topk", 0.5, "--config", "often.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("processes")
    (place / "often.toml").write_text('log-every = 1\nbalance-form = "over-batch"')
    return place


@pytest.fixture(scope="module")
def words(bases, shards):
    """The command that trains a bank for a DiT, with gates that are noisy and balanced."""

    def command(output: str, *more: object) -> tuple[object, ...]:
        plain = ("patch-dmp", bases["dit"], "--data", shards["dit"], "--lr", 1e-3)
        return (*plain, "--batch-size", 2, "-o", output, *LONG, *GATES, *more)

    return command


@pytest.fixture(scope="module")
def both(serving, folder, words) -> str:
    """What two processes say that train the bank `both`."""
    first, second = serving.two(*words("both"), folder=folder)
    assert (0, 0, "", "") == (first.code, second.code, second.out, second.err), first.err
    return first.out + first.err


def rows(output: Path) -> list[tuple[float, ...]]:
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [
        tuple(json.loads(line)[name] for name in ("step", "loss", "grad_norm")) for line in lines
    ]


def weights(output: Path) -> Path:
    return output / "bank" / "adapter_model.safetensors"


def test_two_processes_train_the_bank_of_one_that_accumulates(serving, folder, words, both):
    # the balance is of the images of one forward pass, whoever makes that
    alone = serving(*words("alone", "--grad-accum", 2), folder=folder)
    assert alone.code == 0, alone.err

    assert "batch      4 images (micro x accumulated x processes: 2 x 1 x 2)" in both
    for expected, found in zip(rows(folder / "alone"), rows(folder / "both"), strict=True):
        assert pytest.approx(expected, rel=HALF_OF_THE_DIGITS) == found
    one, other = (load_file(weights(folder / name)) for name in ("alone", "both"))
    assert all(each.any() for each in one.values())
    for name, tensor in one.items():
        # Adam divides by what may be as small as what sums lose
        assert float((tensor - other[name]).abs().max()) < 1e-2 * float(tensor.abs().max()), name


def test_killed_and_resumed_processes_equal_uninterrupted_ones(serving, folder, words, both):
    reached = folder / "killed" / "checkpoints" / "step-000004"
    started = serving.start_two(*words("killed"), folder=folder, held_after=reached)
    wait_for(reached)
    for process in started:
        os.kill(process, signal.SIGKILL)
    killed = [serving.wait(each).code for each in started]

    resumed = serving.two(*words("killed"), folder=folder)

    assert [-signal.SIGKILL] * 2 == killed
    assert [0, 0] == [each.code for each in resumed], resumed
    assert "resuming from killed/checkpoints/step-0000" in resumed[0].err
    straight, killed = (
        hashlib.sha256(weights(folder / name).read_bytes()).hexdigest()
        for name in ("both", "killed")
    )
    assert straight == killed
