"""Functions that workers of a cluster call in tests: some end their own process, once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import PATIENCE

import soupctl.merge.parts.make
from soupctl.errors import MismatchError
from soupctl.verbs import Request, open_job


@dataclass(frozen=True)
class DyingRequest:
    """A request whose second part kills the worker that makes it, the first time."""

    request: Request
    marks: Path
    """The folder with a file for each time that a worker died."""
    caller: int
    """The process that does not die."""


@contextmanager
def open_dying(asked: DyingRequest) -> Iterator[Any]:
    """The job of the request; a worker dies when it has written some tensors of a part."""
    execute = soupctl.merge.parts.make.execute_part

    def half(order: Any, *more: Any) -> Any:
        done = execute(order, *more)
        if dies_first(asked.marks):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    with open_job(asked.request) as job:
        if os.getpid() == asked.caller:
            yield job
            return
        soupctl.merge.parts.make.execute_part = half
        try:
            yield job
        finally:
            soupctl.merge.parts.make.execute_part = execute


def dies_first(marks: Path) -> bool:
    """Whether this is the first process of all that asks, for this folder."""
    try:
        (marks / "died").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die(marks: Path) -> None:
    """End the worker, each time."""
    (marks / f"died-{os.getpid()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(name: str) -> None:
    """Raise an error with two issues."""
    first, second = MismatchError("one", path=name), MismatchError("two", tensor="t", advice="no")
    raise MismatchError.collected([*first.issues, *second.issues])


def fail(name: str) -> float:
    """Raise what no refusal foresees."""
    return 1 / len(name[:0])


def talk(text: str) -> tuple[str, int]:
    """Write to both streams, and return the folder of the process with its id."""
    for stream in (1, 2):
        os.write(stream, text.encode())
    return str(Path.cwd()), os.getpid()


def fail_beside(path: Path) -> float:
    """Run for an hour for the name `wait`; for another one, fail once another call runs."""
    if path.name == "wait":
        (path.parent / f"runs.{os.getpid()}").touch()
        time.sleep(3600)
    end = time.monotonic() + PATIENCE
    while not [*path.parent.glob("runs.*")] and time.monotonic() < end:
        time.sleep(0.01)
    return fail(path.name)
