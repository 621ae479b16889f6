"""A bank trained by two processes equals one trained by a single process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from commands import wait_for
from launched import SOUPCTL, TWO, ended, outcome, started
from processes import children
from safetensors.torch import load_file

HALF_OF_THE_DIGITS = 2.0**-12
"""Of float32: what is left of agreement when sums are taken in another order, layer upon layer."""
LONG = ("--steps", 40, "--save-every", 5)
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
def both(folder, words) -> str:
    """What two processes say that train the bank `both`."""
    return run(folder, *TWO, *SOUPCTL, *words("both"))


def run(folder: Path, *command: object) -> str:
    code, said = outcome(*command, folder=folder)
    assert code == 0, said
    return said


def rows(output: Path) -> list[tuple[float, ...]]:
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [
        tuple(json.loads(line)[name] for name in ("step", "loss", "grad_norm")) for line in lines
    ]


def weights(output: Path) -> Path:
    return output / "bank" / "adapter_model.safetensors"


@pytest.mark.slow
def test_two_processes_train_the_bank_of_one_that_accumulates(folder, words, both):
    # the balance is of the images of one forward pass, whoever makes that
    run(folder, sys.executable, *SOUPCTL, *words("alone", "--grad-accum", 2))

    assert "batch      4 images (micro x accumulated x processes: 2 x 1 x 2)" in both
    for expected, found in zip(rows(folder / "alone"), rows(folder / "both"), strict=True):
        assert pytest.approx(expected, rel=HALF_OF_THE_DIGITS) == found
    one, other = (load_file(weights(folder / name)) for name in ("alone", "both"))
    assert all(each.any() for each in one.values())
    for name, tensor in one.items():
        # Adam divides by what may be as small as what sums lose
        assert float((tensor - other[name]).abs().max()) < 1e-2 * float(tensor.abs().max()), name


@pytest.mark.slow
def test_killed_and_resumed_processes_equal_uninterrupted_ones(folder, words, both):
    with started(*TWO, *SOUPCTL, *words("killed"), folder=folder) as launcher:
        wait_for(folder / "killed" / "checkpoints" / "step-000010")
        for process in (*children(launcher.pid), launcher.pid):
            os.kill(process, signal.SIGKILL)
        code, _ = ended(launcher)

    said = run(folder, *TWO, *SOUPCTL, *words("killed"))

    assert -signal.SIGKILL == code
    assert "resuming from killed/checkpoints/step-0000" in said
    straight, killed = (
        hashlib.sha256(weights(folder / name).read_bytes()).hexdigest()
        for name in ("both", "killed")
    )
    assert straight == killed
