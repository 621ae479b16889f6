"""Whole processes, measured: time from outside, memory and open files from /proc.

Rule 1: a timed run is not watched, and a watched run's time is not used: looking costs time.
Rule 2: memory is anonymous memory; mapped inputs belong to the page cache and are not counted.
Rule 3: what is watched is the command's own process, so a command must not start another.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PERIOD_SECONDS = 0.002
BLOCK_BYTES = 512
"""The unit in which Linux counts what a process reads and writes."""


class CommandFailed(Exception):
    """A measured command that did not end with 0."""


@dataclass(frozen=True, slots=True)
class Duration:
    """What one run took, in seconds."""

    wall: float
    user: float
    system: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """The most that one run held at any moment it was looked at."""

    anonymous_mib: float
    open_files: int
    looks: int
    bytes_read: int = 0
    """From the disk, so none that lay in the page cache."""
    bytes_written: int = 0
    """Handed to the disk."""


def timed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Duration:
    """How long `command` took, from its start to its end; CommandFailed if it refused."""
    duration, _ = _run(command, environment, None)
    return duration


def watched(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Footprint:
    """What `command` held at its peak, looked at every 2 ms; CommandFailed if it refused."""
    anonymous_kib = open_files = looks = 0

    def look(id: int) -> None:
        nonlocal anonymous_kib, open_files, looks
        try:
            status = Path(f"/proc/{id}/status").read_text()
            files = sum(1 for _ in Path(f"/proc/{id}/fd").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            return
        anonymous_kib = max(anonymous_kib, _anonymous_kib(status))
        open_files = max(open_files, files)
        looks += 1

    _, usage = _run(command, environment, look)
    if looks == 0:
        raise CommandFailed(f"{command[0]} ended before it could be looked at once")
    read, written = (BLOCK_BYTES * blocks for blocks in (usage.ru_inblock, usage.ru_oublock))
    return Footprint(anonymous_kib / 1024, open_files, looks, read, written)


def _run(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    look: Callable[[int], None] | None,
) -> tuple[Duration, resource.struct_rusage]:
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            if look is not None:
                _watch_until_end(process.pid, look)
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        wall = time.perf_counter() - start
        # the child was reaped by wait4, which gives its usage, so Popen must not wait for it
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            message = errors.read().decode(errors="replace").strip()
            raise CommandFailed(f"{command[0]} ended with {process.returncode}: {message[-2000:]}")
    return Duration(wall, usage.ru_utime, usage.ru_stime), usage


def _watch_until_end(id: int, look: Callable[[int], None]) -> None:
    # WNOWAIT leaves the process to be reaped by wait4
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, id, options) is None:
        look(id)
        time.sleep(PERIOD_SECONDS)


def _anonymous_kib(status: str) -> int:
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    # an ended process keeps its entry until it is reaped, but holds nothing
    return 0
