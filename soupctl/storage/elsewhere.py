"""Files whose bytes lie elsewhere, on a server; an empty file of their size stands for each.

Rule 1: a reader that does not know of them is refused such a file, and never reads the empty one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class FileElsewhere(Protocol):
    """One version of a file on a server."""

    @property
    def address(self) -> str:
        """Its address in messages, without anything secret."""

    @property
    def hint(self) -> str:
        """Its address in ledgers, with the version if addresses of its kind can name one."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def read(self, start: int, stop: int) -> bytes | bytearray:
        """The bytes of a range; InputError if it cannot be read, OutputError if it has changed."""

    def is_unchanged(self) -> bool:
        """Whether the server still has this version; InputError if it does not answer."""


_STANDING_FOR: dict[str, FileElsewhere] = {}
_HINTS: dict[str, str] = {}


def stand_for(path: Path, file: FileElsewhere) -> None:
    """Make an empty file at `path` that stands for a file elsewhere; OSError."""
    with path.open("xb") as empty:
        os.truncate(empty.fileno(), file.size)
    _STANDING_FOR[str(path)] = file


def hint_from_now(path: Path, hint: str) -> None:
    """Let ledgers call what a path stands for by its address."""
    _HINTS[str(path)] = hint


def hint_at(path: Path) -> str | None:
    """The address, for a ledger, that a path stands for; None for one on this disk."""
    for place in (path, *path.parents) if _HINTS else ():
        if str(place) in _HINTS:
            below = path.relative_to(place).as_posix()
            return _HINTS[str(place)] + ("" if below == "." else f"/{below}")
    return None


def elsewhere(path: Path | str) -> FileElsewhere | None:
    """The file that the one at `path` stands for; None for all others."""
    return _STANDING_FOR.get(str(path)) if _STANDING_FOR else None
