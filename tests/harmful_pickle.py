"""A pickle that proves that it was loaded."""

from __future__ import annotations

from pathlib import Path


class HarmfulPickle:
    """Creates a file where it was pickled, when it is unpickled."""

    def __init__(self, name: str) -> None:
        self.path = Path(name).absolute()

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)
