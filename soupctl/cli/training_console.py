"""Progress of training on stderr: a status line and a bar on a terminal, plain lines elsewhere.

Rule 1: nothing is shown with -q; in a pipe, there is neither status line nor bar.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .console import is_terminal, say

if TYPE_CHECKING:
    from ..training.callbacks import Progress

BETWEEN_LINES = 5.0
"""Seconds from one line of progress to the next."""


@contextmanager
def status(text: str, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a line with a spinner on a terminal, until the block ends or the result is called."""
    if quiet or not is_terminal():
        yield lambda: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as shown:
        yield shown.stop


def reporter(
    quiet: bool, verbose: bool, shard: str = "", on_begin: Callable[[], None] = lambda: None
) -> LineReporter | BarReporter:
    """A bar on a terminal, lines elsewhere, all of them with `verbose`.

    `shard` is the place of the run among several, such as `2 of 4`.
    """
    if is_terminal() and not quiet:
        return BarReporter(shard, on_begin)
    return LineReporter(quiet, 0 if verbose else BETWEEN_LINES)


class TimeLeft:
    """Estimates the time left, from the steps made since training began."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, step: int) -> None:
        """Start the clock; `step` is the last one of an earlier start, or 0."""
        self._first, self._started = step, time.monotonic()

    def text(self, step: int, steps: int) -> str:
        """The time left after `step`, such as `3 min 20 s left`."""
        seconds = (time.monotonic() - self._started) / max(step - self._first, 1)
        return f"{duration_text(seconds * (steps - step))} left"


def duration_text(seconds: float) -> str:
    """A duration for people: `45 s`, `3 min 20 s`, `2 h 5 min`, `1 d 3 h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in parts[:2])


class LineReporter:
    """Reports in plain lines, not too many of them."""

    def __init__(self, quiet: bool, between: float) -> None:
        self._quiet = quiet
        self._between = between
        self._last = float("-inf")
        self._left = TimeLeft()

    def say(self, text: str) -> None:
        """Report one thing."""
        say(text, self._quiet)

    def begin(self, step: int, steps: int) -> None:  # noqa: ARG002
        """Start the clock."""
        self._left.begin(step)

    def step(self, step: int) -> None:
        """Do nothing: lines come with figures."""

    def show(self, progress: Progress) -> None:
        """Report the figures, unless the last line is too recent."""
        now = time.monotonic()
        if now - self._last >= self._between or progress.step == progress.steps:
            self._last = now
            left = self._left.text(progress.step, progress.steps)
            count = f"step {progress.step}/{progress.steps}"
            say(f"{count}  {_figures(progress)}  {left}", self._quiet)

    def end(self) -> None:
        """Do nothing: the last line has been written."""


class BarReporter:
    """Reports with a bar on a terminal."""

    def __init__(self, shard: str, on_begin: Callable[[], None]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("shard {task.fields[shard]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
        )
        shown = columns if shard else columns[1:]
        self._bar = Progress(*shown, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None, shard=shard, left="")
        self._left = TimeLeft()
        self._steps = 0
        self._on_begin = on_begin

    def say(self, text: str) -> None:
        """Report one thing."""
        say(text)

    def begin(self, step: int, steps: int) -> None:
        """Show the bar in place of the previous display."""
        self._on_begin()
        self._steps = steps
        self._left.begin(step)
        self._bar.update(self._task, completed=step, total=steps)
        self._bar.start()

    def step(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step, left=self._left.text(step, self._steps))

    def show(self, progress: Progress) -> None:
        """Show the figures beside the bar."""
        self._bar.update(self._task, description=_figures(progress))

    def end(self) -> None:
        """Remove the bar."""
        self._bar.stop()


def _figures(progress: Progress) -> str:
    return f"loss {progress.loss:.5f}  lr {progress.lr:.3g}  {progress.rate:.3g} it/s"
