"""Processes that tests start, none of which outlives its test.

Rule 1: a process leads a group of its own; what is left of it and its descendants is killed.
Rule 2: a test that fails or is interrupted ends what it started, too.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PATIENCE = 240
"""Seconds after which a command counts as hanging; less than pytest allows a test."""


@contextmanager
def started(*command: object, **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that begins to run, and is killed at the end if it still does."""
    process = subprocess.Popen([str(word) for word in command], process_group=0, **more)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill a program that `started` gave, and its descendants."""
    # a launcher's workers lead groups of their own
    found = [process.pid, *descendants(process.pid)]
    for each in found:
        kill_group(each)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            # what is still buffered has no reader any more
            with suppress(BrokenPipeError):
                stream.close()


def kill_group(leader: int) -> None:
    """Kill a process and the group that it leads, if there is any."""
    for send in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            send(leader, signal.SIGKILL)


def children(parent: int) -> list[int]:
    """The processes that a process started, in that order; none where there is no /proc."""
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    except FileNotFoundError:
        return []
    return sorted(map(int, text.split()))


def descendants(parent: int) -> list[int]:
    """The processes that a process and its children started."""
    return [each for child in children(parent) for each in (child, *descendants(child))]


def waits_for(process_id: int, stream: IO[bytes]) -> bool:
    """Whether a process has read all that was written to a pipe, and sleeps until more comes.

    A signal just before it falls asleep would be heard only when it wakes up.
    """
    left = struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]
    state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    return left == 0 and state == "S"


@dataclass
class Server:
    """A process that forks commands; tests/cli/server.py says how it is spoken to."""

    process: subprocess.Popen[str]
    running: set[int] = field(default_factory=set)
    asked: int = 0

    @classmethod
    def launch(cls, script: Path, **environment: str) -> Server:
        """A server with more in its environment."""
        process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            process_group=0,
        )
        return cls(process)

    def start(self, request: Mapping[str, object]) -> int:
        """The id of the process that runs a command."""
        started = self._ask(request)
        self.running.add(started)
        return started

    def wait(self, started: int) -> int:
        """The exit code of a command, which is killed if it hangs."""
        code = self._ask({"wait": started})
        self.running.discard(started)
        return code

    def end_commands(self) -> None:
        """Kill the commands that still run."""
        for each in sorted(self.running):
            kill_group(each)
            self.wait(each)

    def close(self) -> None:
        """End it, and the commands that still run."""
        self.end_commands()
        self.process.communicate()

    def _ask(self, request: Mapping[str, object]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.asked += 1
        self.process.stdin.write(json.dumps({**request, "number": self.asked}) + "\n")
        self.process.stdin.flush()
        if "wait" in request:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            if not ready:
                kill_group(int(str(request["wait"])))
        while True:
            number, answer = json.loads(self.process.stdout.readline())
            # the answer to a question that a timeout broke off comes first
            if number == self.asked:
                return answer
