"""Runs training commands in forks of one process that has loaded the libraries and run nothing.

Rule 1: a request may ask that the process be killed at its n-th fsync, as a fake of a power cut,
or stopped while it saves the checkpoint after a path is there: it cannot end before it is killed.
Rule 2: a request for a script beside this one runs its `main` with the other words.

Requests and answers are those of tests/cli/server.py, with `"killed_at_sync"` and
`"held_after"` besides.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from pathlib import Path

import accelerate  # noqa: F401
import diffusers
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

import server as commands

import soupctl.images.plots
import soupctl.training.trainer  # noqa: F401
from soupctl.cli.main import main as soupctl_main
from soupctl.training import kept_scan

MODELS = ("UNet2DConditionModel", "UNet2DModel", "AutoencoderKL", "DDIMScheduler", "DDPMScheduler")


def kill_at_sync(number: int) -> None:
    """Let the n-th fsync from now on be the last thing that the process does not do."""
    real, left = os.fsync, [number]

    def sync(fd: int) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        real(fd)

    os.fsync = sync


NEXT = 7
"""The fsync after a checkpoint got its name at which the next one is half saved."""


def hold_after(path: Path) -> None:
    """Stop the process while it saves the checkpoint that comes after this one."""
    real, left = os.fsync, [NEXT]

    def sync(fd: int) -> None:
        left[0] -= path.exists()
        if not left[0]:
            os.kill(os.getpid(), signal.SIGSTOP)
        real(fd)

    os.fsync = sync


def run(arguments: list[str]) -> None:
    """Run `soupctl` with its arguments, or a script with its own."""
    name, *others = arguments
    if name.endswith(".py"):
        importlib.import_module(name.removesuffix(".py")).main(*others)
        sys.exit()
    soupctl_main(arguments)


def serve() -> None:
    """Answer one request a line until there are no more."""
    become = commands.become

    def prepared(request: dict) -> None:
        become(request)
        # not the user's folder of kept scans
        kept_scan.cache_folder = lambda: Path(request["streams"][0]).parent / "scans"
        sys.argv = ["soupctl", *request["arguments"]]
        if request.get("killed_at_sync"):
            kill_at_sync(request["killed_at_sync"])
        if request.get("held_after"):
            hold_after(Path(request["held_after"]))

    commands.become, commands.main = prepared, run
    commands.serve()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in MODELS:
        getattr(diffusers, name)
    for name in ("CLIPTextModel", "CLIPTokenizer"):
        getattr(transformers, name)
    gc.freeze()
    serve()
