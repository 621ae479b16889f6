"""Limits on the size of files, and disks without room: one line, exit code 6, and nothing left.

Rule 1: what a run would be refused for, `-n` is refused for, in the same words.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = {"RLIMIT_FSIZE": 3000}
SIZE = 2000


@pytest.fixture
def larger(soupctl, save) -> None:
    """Ingredients, soups and a folder, each larger than a file may be."""
    for seed, name in enumerate("abc"):
        values = np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float16)
        save(f"{name}.st", {"w": values, "v": values[:10]})
    soupctl("avg", "a.st", "b.st", "-o", "soup.st")
    soupctl("avg", "a.st", "b.st", "-o", "kept.st", "--keep-sum")
    soupctl("delta", "b.st", "a.st", "-o", "d.st")
    Path("recipe.toml").write_text(soupctl("log", "soup.st", "--recipe").text)
    soupctl("avg", "a.st", "b.st", "-o", "folder", "--shard-size", "2k")


MAKING = {
    "avg": "avg a.st b.st -o x.st",
    "replaced": "avg a.st b.st -o soup.st -f",
    "kept sum": "avg a.st b.st -o x.st --keep-sum",
    "in place": "subtract kept.st a.st -o kept.st -f",
    "added": "add soup.st c.st -o x.st",
    "each": "subtract soup.st --each -o x-{name}.st",
    "folder": "avg folder folder -o x",
    "one shard": "avg a.st b.st -o x --shard-size 100k",
    "stream": "avg a.st b.st -o -",
    "applied": "apply a.st d.st -o x.st",
    "recipe": "run recipe.toml -o x.st",
}


@pytest.mark.parametrize("command", MAKING.values(), ids=MAKING)
def test_a_limit_on_file_sizes_is_refused_by_the_plan_as_by_the_run(
    soupctl, larger, holds, command
):
    before = holds()

    made = soupctl(*command.split(), limits=HERE)
    planned = soupctl(*command.split(), "-n", limits=HERE)

    assert (6, b"") == (made.code, made.out)
    assert made.message.endswith(" bytes, more than a file may have here (see ulimit -f)\n")
    assert 1 == len(made.message.splitlines())
    assert (6, b"", made.message) == (planned.code, planned.out, planned.message)
    assert before == holds()


def test_a_limit_on_file_sizes_stops_deltas_loras_and_spooled_inputs(soupctl, larger, holds):
    before = holds()

    for command in (
        "delta a.st b.st -o x.st",
        "delta a.st b.st -o -",
        "avg - a.st -o x.st",
        "hash -",
        "demo x",
    ):
        done = soupctl(
            *command.split(), stdin=Path("a.st").read_bytes(), limits={"RLIMIT_FSIZE": 500}
        )

        assert (6, b"") == (done.code, done.out), command
        assert 1 == len(done.message.splitlines()), (command, done.message)
        assert "ulimit -f" in done.message, (command, done.message)
    assert before == holds()


def test_a_report_that_cannot_be_written_whole_is_an_error(soupctl, larger):
    for command in ("inspect a.st --json", "hash a.st", "log soup.st", "avg a.st b.st -o x.st -n"):
        done = soupctl(*command.split(), limits={"RLIMIT_FSIZE": 8})

        assert 6 == done.code, command
        assert 1 == len(done.message.splitlines()), done.message


def test_no_compiled_module_is_written_that_could_be_cut_off():
    """Python does not look at how much of it was written."""
    lines = (
        "import resource, sys",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))",
        "import soupctl.cli",
        "print(sys.dont_write_bytecode)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    done = subprocess.run(command, capture_output=True, check=True, env=environment)

    assert b"True\n" == done.stdout
