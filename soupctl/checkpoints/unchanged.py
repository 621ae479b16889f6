"""Small files that were read by their names, and must be the same still when an output is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..errors import OutputError
from ..storage.regular import reading
from .safetensors import FileIdentity


@dataclass(frozen=True, slots=True)
class FileSnapshot:
    """A file as it was before it was read."""

    path: Path
    identity: FileIdentity

    @classmethod
    def take(cls, path: Path) -> Self:
        """The file at `path` as it is; InputError if that cannot be told."""
        with reading(str(path)):
            return cls(path, FileIdentity.of(path.stat()))

    def require_unchanged(self) -> None:
        """Raise OutputError if the path leads to another file, or to one written to since."""
        if not self.identity.is_at(self.path):
            raise OutputError("changed while it was read", path=self.path)
