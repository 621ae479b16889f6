"""The limit that averages are held against: limit.c, compiled when it is first needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("limit.c")
OPTIONS = ("-O3", "-march=native", "-pthread")

_kept: list[tempfile.TemporaryDirectory[str]] = []


def compiler() -> str | None:
    """The C compiler, $CC or cc; None if there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


@cache
def program() -> Path:
    """The compiled limit, which is removed when this process ends; there must be a compiler."""
    folder = tempfile.TemporaryDirectory(prefix="soupctl-limit-")
    _kept.append(folder)
    built = Path(folder.name) / "limit"
    command = compiler()
    assert command is not None
    subprocess.run([command, *OPTIONS, str(SOURCE), "-o", str(built)], check=True)
    return built


def command(
    inputs: Iterable[Path], outputs: Sequence[Path] = (), threads: int | None = None
) -> list[str]:
    """The command that reads the inputs and writes the outputs, with two threads by default."""
    written = [word for path in outputs for word in ("-o", str(path))]
    number = [] if threads is None else ["-j", str(threads)]
    return [str(program()), *number, *written, *map(str, inputs)]
