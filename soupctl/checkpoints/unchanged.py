"""Snapshots of small files, to verify that they are unchanged when an output is published."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from ..errors import OutputError
from ..frozen import frozen
from ..storage.reader import FileIdentity
from ..storage.regular import reading


@frozen
class FileSnapshot:
    """The identity of a file, taken before it was read."""

    path: Path
    identity: FileIdentity

    @classmethod
    def take(cls, path: Path) -> Self:
        """A snapshot of the file at `path`; InputError if it is not accessible."""
        with reading(str(path)):
            return cls(path, FileIdentity.of(path.stat()))

    def require_unchanged(self) -> None:
        """Raise OutputError if the file was replaced or written to since."""
        if not self.identity.is_at(self.path):
            raise OutputError("changed while it was read", path=self.path)
