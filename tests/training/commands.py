"""Training commands as processes in one folder, forked by server.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 60
"""Seconds after which a process counts as hanging."""


@dataclass(frozen=True)
class Done:
    """A command that has ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


@dataclass
class Commands:
    """Starts commands."""

    process: subprocess.Popen[str]
    streams: Path
    folder: Path
    count: int = 0

    @classmethod
    def launch(cls, streams: Path) -> Commands:
        process = subprocess.Popen(
            [sys.executable, HERE / "server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return cls(process, streams, streams)

    def _ask(self, request: dict[str, object]):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *words: object, killed_at_sync: int = 0) -> int:
        """The process id of a command as it begins to run."""
        self.count += 1
        paths = [self.streams / f"{self.count}.{name}" for name in ("in", "out", "err")]
        for path in paths:
            path.touch()
        request = {
            "arguments": [str(word) for word in words],
            "folder": str(self.folder),
            "umask": 0o022,
            "environment": {"COLUMNS": "80", "NO_COLOR": "1"},
            "limits": {},
            "streams": [str(path) for path in paths],
            "killed_at_sync": killed_at_sync,
        }
        return self._ask(request)

    def wait(self, started: int) -> Done:
        """The end of the command that was started last."""
        code = self._ask({"wait": started})
        said = [(self.streams / f"{self.count}.{name}").read_text() for name in ("out", "err")]
        return Done(code, *said)

    def __call__(self, *words: object, **more: int) -> Done:
        """A command, run to its end."""
        return self.wait(self.start(*words, **more))

    def close(self) -> None:
        self.process.communicate()


def wait_for(path: Path, lines: int = 0) -> None:
    """Wait until a path is there, with at least so many lines."""
    until = time.monotonic() + PATIENCE
    while not path.exists() or (lines and path.read_text().count("\n") < lines):
        assert time.monotonic() < until, f"{path} did not come into being"
        time.sleep(0.005)
