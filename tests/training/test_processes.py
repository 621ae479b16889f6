"""No process waits for one that died, and one of them says why."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import commands
import pytest
from launched import SOUPCTL, TWO_OF_ACCELERATE, ended, started
from processes import children

LARGEST = 100_000
"""Bytes that a file may have: room for the weights, and none for the optimizer's state."""


def codes(said: str) -> dict[int, int]:
    """The exit code of each process by its rank, as the launcher tells them."""
    ranks = [line.split()[2] for line in said.splitlines() if line.strip().startswith("rank ")]
    found = [line.split()[2] for line in said.splitlines() if line.strip().startswith("exitcode ")]
    return {int(rank): int(code) for rank, code in zip(ranks, found, strict=True)}


def test_all_processes_stop_if_one_cannot_save_and_it_says_why(soupctl, bases, shards):
    words = ("finetune", bases["plain"], "--data", shards["plain"], "-o", "run", "--steps", 2)

    first, second = soupctl.two(*words, limits={"RLIMIT_FSIZE": LARGEST})

    assert (6, 8) == (first.code, second.code)
    place = "run/checkpoints/step-000002/optimizer.safetensors"
    assert first.err.splitlines()[-1].startswith(f"soupctl: {place}: needs ")
    assert "stopped because another process failed; its message says why" in second.err


def test_a_process_ends_with_a_message_when_its_sibling_is_killed(soupctl, bases, shards):
    words = ("finetune", bases["plain"], "--data", shards["plain"], "-o", "run")
    first, second = soupctl.start_two(*words, "--steps", 100_000, "--save-every", 20)
    commands.wait_for(Path("run/checkpoints/latest"))

    os.kill(second, signal.SIGKILL)

    ended = soupctl.wait(first), soupctl.wait(second)
    assert (8, -signal.SIGKILL) == tuple(each.code for each in ended)
    told = (
        "soupctl: another process of this run died "
        "(run the same command to resume from the last checkpoint)"
    )
    assert told == ended[0].err.splitlines()[-1]


@pytest.mark.slow
def test_a_signal_to_one_process_makes_all_save_and_stop_at_the_same_step(bases, shards, tmp_path):
    words = ("finetune", bases["plain"], "--data", shards["plain"], "-o", "run")
    often = ("--steps", 100_000, "--save-every", 20)
    with started(*TWO_OF_ACCELERATE, *SOUPCTL, *words, *often, folder=tmp_path) as launcher:
        commands.wait_for(tmp_path / "run" / "checkpoints" / "latest")
        os.kill(children(launcher.pid)[1], signal.SIGTERM)

        _, said = ended(launcher)

    last = (tmp_path / "run" / "checkpoints" / "latest").read_text().strip()
    # the first one to end has the launcher end the other, which is about to
    assert set(codes(said).values()) <= {143, -signal.SIGTERM}
    assert 143 in codes(said).values()
    assert f"stopped: step {int(last.removeprefix('step-'))} of 100000 is saved" in said
    assert (tmp_path / "run" / "checkpoints" / last / "soupctl_state.json").is_file()
