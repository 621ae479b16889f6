"""How things look to a person: names, sizes, progress.

Rule 1: no control character from a file reaches a terminal.
Rule 2: data goes to stdout, words to stderr, progress only to a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..ledger.ledger import IngredientEntry


def printable(text: str) -> str:
    """The text with everything that is not printable escaped, so it cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def size_text(size: float) -> str:
    """Bytes for people, in powers of 1000: `1.72 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def counted(number: int, noun: str) -> str:
    """So many things of a kind: `1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_terminal() -> bool:
    """Whether a person is likely to read stderr as it is written."""
    return sys.stderr.isatty()


def say(text: str, quiet: bool = False) -> None:
    """Tell a person something, on stderr."""
    if not quiet:
        # in one piece, as other processes of a run write there, too
        sys.stderr.write(f"{printable(text)}\n")


def put(text: str) -> None:
    """Write a line of data to stdout."""
    print(printable(text))


def put_json(value: object) -> None:
    """Write one JSON object to stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=True))


@contextmanager
def progress(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function to call with the bytes that were just done; draws a bar on a terminal only."""
    if quiet or not is_terminal():
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda size: bar.advance(task, size)


def shares_json(entries: Sequence[IngredientEntry]) -> list[dict[str, str | float | None]]:
    """The ingredients of a ledger as JSON, each with its exact weight and its share of the soup."""
    total = sum(entry.weight for entry in entries)
    return [{**entry_json(entry), "share": float(entry.weight / total)} for entry in entries]


def entry_json(entry: IngredientEntry) -> dict[str, str | None]:
    """One ingredient of a ledger as JSON, with its exact weight."""
    return {
        "name": entry.name,
        "digest": entry.digest,
        "weight": str(entry.weight),
        "hint": entry.hint,
    }
