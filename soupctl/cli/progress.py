"""Progress on a terminal: a bar while a command works, gone when it is done.

Rule 1: nothing is shown in a pipe, or with -q.
Rule 2: no result is printed while a bar is drawn; both may be on one terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..frozen import frozen
from .console import is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@frozen
class BytesBar:
    """Called with the bytes that were just done; draws them on a terminal only."""

    bar: Progress | None = None
    task: TaskID | None = None

    def __call__(self, size: int) -> None:
        """Show that so many more bytes are done."""
        if self.bar is not None and self.task is not None:
            self.bar.advance(self.task, size)

    def expect(self, size: int) -> None:
        """Show that so many more bytes are to be done."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, total=(self.bar.tasks[0].total or 0) + size)


@contextmanager
def progress(total: int, quiet: bool) -> Iterator[BytesBar]:
    """A function to call with the bytes that were just done; a bar shows them on a terminal.

    `total` are the bytes to be done as far as they are known, which `expect` adds to. Notices of
    the library, such as that kernels are compiled, are shown above the bar.
    """
    if quiet:
        with _notices(lambda text: None):
            yield BytesBar()
        return
    if not is_terminal():
        yield BytesBar()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False)
    with bar, _notices(lambda text: console.print(text, markup=False, highlight=False)):
        yield BytesBar(bar, bar.add_task("", total=total))


@contextmanager
def read_bar(quiet: bool) -> Iterator[BytesBar]:
    """A bar of the bytes that are read for digests and rebuilds within the block."""
    from ..checkpoints.read_progress import report_reads_to

    with progress(0, quiet) as bar, report_reads_to(bar):
        yield bar


@contextmanager
def steps_progress(title: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A function to call with steps done and steps in all; draws a bar on a terminal only."""
    if quiet or not is_terminal():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _notices(show: Callable[[str], None]) -> Iterator[None]:
    """Show what the library logs for users."""
    # not loaded by commands that show no progress
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            show(record.getMessage())

    logger, handler = logging.getLogger("soupctl"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
