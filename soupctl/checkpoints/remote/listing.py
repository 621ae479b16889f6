"""The files at an address, as one value for all kinds of servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from ...frozen import frozen
from ...storage.elsewhere import FileElsewhere


@frozen
class RemoteFiles:
    """The files at an address, by their names below it; the name of a single file is empty."""

    shown: str
    """The address in messages."""
    hint: str
    """The address in ledgers."""
    files: Mapping[str, FileElsewhere]
    cached: Mapping[str, Path] = field(default_factory=dict)
    """Where some of them lie on this disk."""
