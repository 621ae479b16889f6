"""How training looks to a person as it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .console import is_terminal, say

if TYPE_CHECKING:
    from ..training.callbacks import Progress

BETWEEN_LINES = 5.0
"""Seconds from one line of progress to the next."""


def teller(quiet: bool, verbose: bool) -> Lines | Bar:
    """Whoever suits: a bar on a terminal, lines elsewhere; every line with `verbose`."""
    return Bar() if is_terminal() and not quiet else Lines(quiet, 0 if verbose else BETWEEN_LINES)


class Lines:
    """Tells in plain lines, not too many of them."""

    def __init__(self, quiet: bool, between: float) -> None:
        self._quiet = quiet
        self._between = between
        self._last = float("-inf")

    def say(self, text: str) -> None:
        """Tell one thing."""
        say(text, self._quiet)

    def begin(self, step: int, steps: int) -> None:
        """Tell that training begins."""

    def step(self, step: int) -> None:
        """Tell that a step was made."""

    def show(self, progress: Progress) -> None:
        """Tell how far it is."""
        now = time.monotonic()
        if now - self._last >= self._between or progress.step == progress.steps:
            self._last = now
            say(_progress_text(progress), self._quiet)

    def end(self) -> None:
        """Tell that training has ended."""


def _progress_text(progress: Progress) -> str:
    left = (progress.steps - progress.step) / progress.rate
    return (
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.5f}  lr {progress.lr:.3g}"
        f"  {progress.rate:.3g} it/s  {left:.0f} s left"
    )


class Bar:
    """Tells with a bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None)

    def say(self, text: str) -> None:
        """Tell one thing."""
        say(text)

    def begin(self, step: int, steps: int) -> None:
        """Tell that training begins."""
        self._bar.update(self._task, completed=step, total=steps)
        self._bar.start()

    def step(self, step: int) -> None:
        """Tell that a step was made."""
        self._bar.update(self._task, completed=step)

    def show(self, progress: Progress) -> None:
        """Tell how far it is."""
        text = f"loss {progress.loss:.5f}  lr {progress.lr:.3g}  {progress.rate:.3g} it/s"
        self._bar.update(self._task, description=text)

    def end(self) -> None:
        """Tell that training has ended."""
        self._bar.stop()
