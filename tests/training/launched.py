"""Programs run by two processes, of torchrun or accelerate, on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import processes

TWO = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
# on a CPU alone, it would otherwise start a single one
TWO_OF_ACCELERATE = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
    # 0 is any free port
    *("--num_processes", "2", "--main_process_port", "0"),
)
SOUPCTL = ("-m", "soupctl")
# a user of torchrun does not tell accelerate to use the processor
PLAIN = {name: text for name, text in os.environ.items() if name != "ACCELERATE_USE_CPU"}
ENVIRONMENT = {**PLAIN, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@contextmanager
def started(*words: object, folder: Path, **more) -> Iterator[subprocess.Popen[str]]:
    """A program that begins to run in a folder, and is killed at the end if it still does."""
    with processes.started(
        *words,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    ) as process:
        yield process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How a program ended, and what it said."""
    said, _ = process.communicate()
    return process.returncode, said


def outcome(*words: object, folder: Path, **more) -> tuple[int, str]:
    """How a program ends, and what it says."""
    with started(*words, folder=folder, **more) as process:
        return ended(process)
