"""soupctl's own command line, without the seconds in which a new process loads PyTorch.

Rule 1: a command runs in a child that is forked from this process, so it changes nothing here.
Rule 2: what it prints goes to a file; if it fails, the error names its words and its last lines.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch

from soupctl.cli import app
from soupctl.cli.main import main

VERBS = ("finetune", "patch-dmp", "avg", "subtract", "delta", "apply", "greedy", "search", "sample")
LOADED = (
    "soupctl.verbs",
    "soupctl.engines.cpu",
    "soupctl.training.commands",
    "soupctl.images.compare",
    "soupctl.images.plots",
    "soupctl.scoring.function",
    "accelerate",
    "diffusers.training_utils",
    "matplotlib.backends.backend_agg",
    "mpl_toolkits.mplot3d",
    "PIL.PngImagePlugin",
)
SHOWN = 5
"""Lines of what a command said, in an error."""


class CommandError(Exception):
    """A command of soupctl failed."""


def load() -> None:
    """Load what commands load, so that their processes need not; starts no thread."""
    for name in LOADED:
        import_module(name)
    commands = app.commands().commands
    for verb in VERBS:
        commands[verb]
    # loaded when they are named
    diffusers.DiTTransformer2DModel, diffusers.DDPMScheduler  # noqa: B018
    # threads do not survive a fork
    torch.set_num_threads(1)
    # else each child would visit, and so copy, all that is loaded when it collects garbage
    gc.freeze()


def run(words: Sequence[object], log: Path) -> None:
    """Run soupctl with these words; CommandError if its exit code is not 0."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run_here([str(each) for each in words], log)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        said = "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN:])
        raise CommandError(f"soupctl {' '.join(map(str, words))} ended with {code}:\n{said}")


def _run_here(words: list[str], log: Path) -> None:
    """Run a command, and end this process with its exit code."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may go on in the child
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def toml(options: Mapping[str, Any]) -> str:
    """Options of training as the file that `--config` reads."""
    return "".join(f"{name} = {_value(each)}\n" for name, each in options.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
