"""Training commands as processes in one folder, forked by server.py."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from processes import Server

HERE = Path(__file__).parent
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

    @classmethod
    def launch(cls, streams: Path) -> TrainingCommands:
        return cls(Server.launch(HERE / "server.py", OMP_NUM_THREADS="1"), streams, streams)

    def start(self, *words: object, killed_at_sync: int = 0, answers: str = "") -> int:
        """The process id of a command as it begins to run; `answers` are its standard input."""
        self.count += 1
        paths = [self.streams / f"{self.count}.{name}" for name in ("in", "out", "err")]
        for path in paths:
            path.touch()
        paths[0].write_text(answers)
        request = {
            "arguments": [str(word) for word in words],
            "folder": str(self.folder),
            "umask": 0o022,
            "environment": {"COLUMNS": "80", "NO_COLOR": "1"},
            "limits": {},
            "streams": [str(path) for path in paths],
            "killed_at_sync": killed_at_sync,
        }
        return self.server.start(request)

    def wait(self, started: int) -> EndedCommand:
        """The end of the command that was started last."""
        code = self.server.wait(started)
        said = [(self.streams / f"{self.count}.{name}").read_text() for name in ("out", "err")]
        return EndedCommand(code, *said)

    def __call__(self, *words: object, **more: int | str) -> EndedCommand:
        """A command, run to its end."""
        return self.wait(self.start(*words, **more))


def wait_for(path: Path, lines: int = 0) -> None:
    """Wait until a path is there, with at least so many lines."""
    until = time.monotonic() + PATIENCE
    while not path.exists() or (lines and path.read_text().count("\n") < lines):
        assert time.monotonic() < until, f"{path} did not come into being"
        time.sleep(0.005)
