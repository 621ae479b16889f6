"""Training commands as processes in one folder, forked by server.py."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from processes import Server

HERE = Path(__file__).parent
NO_NAME = re.compile(r"\[W.*\[c10d\] The hostname of the client socket cannot be retrieved.*\n")
"""What torch says where 127.0.0.1 has no name."""
PATIENCE = 200
"""Seconds after which what a process is to write counts as missing."""


@dataclass(frozen=True)
class EndedCommand:
    """A command that has ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


@dataclass
class TrainingCommands:
    """Starts commands."""

    server: Server
    streams: Path
    folder: Path
    count: int = 0
    numbers: dict[int, int] = field(default_factory=dict)
    """The number of each command by its process id."""

    @classmethod
    def launch(cls, streams: Path) -> TrainingCommands:
        return cls(Server.launch(HERE / "server.py", OMP_NUM_THREADS="1"), streams, streams)

    def start(
        self,
        *words: object,
        killed_at_sync: int = 0,
        held_after: Path | None = None,
        answers: str = "",
        out: Path | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str | None] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> int:
        """The process id of a command as it begins to run.

        `answers` are its standard input, and `out` is a device instead of a file. A command that is
        held after a checkpoint saves no other one, and does not end.
        """
        self.count += 1
        paths = [self.streams / f"{self.count}.{name}" for name in ("in", "out", "err")]
        for path in paths:
            path.touch()
        paths[0].write_text(answers)
        request = {
            "arguments": [str(word) for word in words],
            "folder": str(folder or self.folder),
            "umask": 0o022,
            "environment": {"COLUMNS": "80", "NO_COLOR": "1", **(environment or {})},
            "limits": limits or {},
            "streams": [str(paths[0]), str(out or paths[1]), str(paths[2])],
            "killed_at_sync": killed_at_sync,
            "held_after": held_after and str(held_after),
        }
        started = self.server.start(request)
        self.numbers[started] = self.count
        return started

    def start_two(self, *words: object, **more: object) -> tuple[int, int]:
        """The ids of two processes of one command, told of each other as torchrun tells them."""
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        # a user of torchrun does not tell accelerate to use the processor
        place |= {"ACCELERATE_USE_CPU": None, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        ranks = ({**place, "RANK": rank, "LOCAL_RANK": rank} for rank in "01")
        first, second = (self.start(*words, environment=rank, **more) for rank in ranks)
        return first, second

    def wait(self, started: int) -> EndedCommand:
        """The end of a command."""
        code, number = self.server.wait(started), self.numbers[started]
        said = [(self.streams / f"{number}.{name}").read_text() for name in ("out", "err")]
        return EndedCommand(code, said[0], NO_NAME.sub("", said[1]))

    def __call__(self, *words: object, **more: object) -> EndedCommand:
        """A command, run to its end."""
        return self.wait(self.start(*words, **more))

    def two(self, *words: object, **more: object) -> tuple[EndedCommand, EndedCommand]:
        """A command, run to its end by two processes."""
        first, second = self.start_two(*words, **more)
        return self.wait(first), self.wait(second)


def free_port() -> int:
    """A port that nobody listens at, and that no system gives to who asks for any."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def wait_for(path: Path, lines: int = 0) -> None:
    """Wait until a path is there, with at least so many lines."""
    until = time.monotonic() + PATIENCE
    while not path.exists() or (lines and path.read_text().count("\n") < lines):
        assert time.monotonic() < until, f"{path} did not come into being"
        time.sleep(0.005)
