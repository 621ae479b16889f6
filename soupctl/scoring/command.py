"""Scoring candidates with a shell command, several at once.

Rule 1: the shell reads the candidate's path from a variable, so no path is ever parsed by it.
Rule 2: a scorer runs in a session of its own, and nothing of it is left when its score is taken.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from threading import Thread
from typing import IO

from ..errors import ScorerError, UsageError
from .scorer import Candidate, Recorder

PLACE = "{}"
"""Stands for the candidate's path in a command."""
VARIABLE = "SOUPCTL_CANDIDATE"
"""The environment variable with the candidate's path."""
FORMS = {"": f'"${{{VARIABLE}}}"', '"': f"${{{VARIABLE}}}", "'": f"'\"${{{VARIABLE}}}\"'"}
"""What replaces the place outside and within quotes of either kind."""
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
KEPT = 1 << 16
"""Bytes of a scorer's output that are kept, from its end."""
SHOWN = 300
"""Characters of a scorer's messages that an error shows."""
LEFT_OPEN = 1.0
"""Seconds to wait for the rest of the output, which a process outside the session may hold open."""


class CommandScorer:
    """Runs a command for each candidate, which prints the score on its last line."""

    def __init__(self, command: str, timeout: float | None = None) -> None:
        """Raise UsageError for a command without a place for the path."""
        self._command = with_variable(command)
        self._timeout = timeout

    def score(self, candidates: Sequence[Candidate], record: Recorder) -> None:
        """Give `record` the score of each candidate as soon as it is known.

        All run at once. Raises ScorerError for one that gives none; the others are then ended.
        """
        finished: Queue[_ScorerProcess] = Queue()
        with _ending() as running:
            for number, candidate in enumerate(candidates):
                running.append(_ScorerProcess(self._command, number, candidate, finished))
            end = None if self._timeout is None else time.monotonic() + self._timeout
            for _ in candidates:
                try:
                    left = None if end is None else max(0.0, end - time.monotonic())
                    done = finished.get(timeout=left)
                except Empty:
                    late = next((each for each in running if not each.has_ended), running[0])
                    what = f"the scorer took longer than {self._timeout:g} seconds"
                    raise ScorerError(late.told(what), path=late.candidate.label) from None
                record(done.number, done.score())


def with_variable(command: str) -> str:
    """The shell command with a variable, properly quoted, in place of each `{}`.

    A backslash before `{}` keeps it. Raises UsageError for a command that has neither.
    """
    parts, quote, place = [], "", 0
    while place < len(command):
        letter = command[place]
        step = 1
        if command.startswith(PLACE, place):
            letter, step = FORMS[quote], len(PLACE)
        elif letter == "\\" and quote != "'":
            letter, step = command[place : place + 2], 2
        elif letter in "'\"":
            quote = {"": letter, letter: ""}.get(quote, quote)
        parts.append(letter)
        place += step
    made = "".join(parts)
    if "\0" in made:
        raise UsageError("a scorer's command holds a null character")
    if VARIABLE not in made:
        advice = "such as --score 'python score.py {}'"
        raise UsageError("--score names no place for the candidate's path", advice=advice)
    return made


@contextmanager
def _ending() -> Iterator[list[_ScorerProcess]]:
    """A list of processes, all of which are ended with the block."""
    running: list[_ScorerProcess] = []
    try:
        yield running
    finally:
        for each in running:
            each.end()


class _ScorerProcess:
    """One run of the command; it puts itself into `finished` at its end."""

    def __init__(
        self, command: str, number: int, candidate: Candidate, finished: Queue[_ScorerProcess]
    ) -> None:
        self.number = number
        self.candidate = candidate
        self.has_ended = False
        self._process = _start(command, candidate)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out = _Tail(self._process.stdout)
        self._err = _Tail(self._process.stderr)
        Thread(target=self._wait, args=(finished,), daemon=True).start()

    def _wait(self, finished: Queue[_ScorerProcess]) -> None:
        self._process.wait()
        self._end_session()
        self._out.finish()
        self._err.finish()
        self.has_ended = True
        finished.put(self)

    def _end_session(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill all of it that still runs."""
        if not self.has_ended:
            self._end_session()
            self._process.wait()

    def score(self) -> float:
        """The number on its last line; ScorerError if there is none."""
        code = self._process.returncode
        if code < 0:
            self._refuse(f"the scorer was ended by {signal.Signals(-code).name}")
        if code:
            self._refuse(f"the scorer ended with exit code {code}")
        lines = self._out.text().strip().splitlines()
        if not lines:
            self._refuse("the scorer printed nothing, and a number is expected on its last line")
        last = lines[-1].strip()
        if not NUMBER.fullmatch(last):
            self._refuse(f"the scorer's last line is {_shortened(last)!r}, not a finite number")
        number = float(last)
        if number in (float("inf"), float("-inf")):
            self._refuse(f"the scorer's last line is {_shortened(last)!r}, beyond any float64")
        return number

    def _refuse(self, what: str) -> None:
        raise ScorerError(self.told(what), path=self.candidate.label)

    def told(self, what: str) -> str:
        """A problem, with the end of what the scorer said on standard error."""
        said = " / ".join(line.strip() for line in self._err.text().splitlines() if line.strip())
        return f"{what}: {said[-SHOWN:]}" if said else what


def _start(command: str, candidate: Candidate) -> subprocess.Popen[bytes]:
    """The command as it begins to run; ScorerError if the system cannot start it."""
    try:
        return subprocess.Popen(  # noqa: S603
            ("/bin/sh", "-c", command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, VARIABLE: os.path.abspath(candidate.path)},
            start_new_session=True,
        )
    except OSError as error:
        what = f"the scorer cannot be started: {error.strerror or error}"
        raise ScorerError(what, path=candidate.label) from error


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


class _Tail:
    """The end of a stream, read in a thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._parts: deque[bytes] = deque()
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        size = 0
        while part := os.read(self._stream.fileno(), KEPT):
            self._parts.append(part)
            size += len(part)
            while size - len(self._parts[0]) >= KEPT:
                size -= len(self._parts.popleft())
        self._stream.close()

    def finish(self) -> None:
        """Read to the end, unless a process that outlives the scorer holds it open."""
        self._thread.join(LEFT_OPEN)

    def text(self) -> str:
        """The text that was read last."""
        return b"".join([*self._parts]).decode("utf-8", "replace")
