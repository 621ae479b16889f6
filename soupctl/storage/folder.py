"""The files of a model's folder that are not its weights.

Rule 1: only what lies in the folder itself counts: links to files are read, links to folders are
not entered.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .regular import reading


def other_files(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Path]:
    """The wanted files in a folder and its subfolders, by their name relative to it.

    Hidden files and folders are left out. Raises InputError for what is no regular file.
    """
    found: dict[str, Path] = {}
    with reading(str(folder)):
        for place, folders, files in os.walk(folder, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(place, name)
                if name.startswith(".") or not wanted(name):
                    continue
                if not path.is_file():
                    raise InputError("is neither a regular file nor a folder", path=path)
                found[path.relative_to(folder).as_posix()] = path
    return found


def _refuse(error: OSError) -> None:
    raise error


def equal_bytes(first: Path, other: Path) -> bool:
    """Whether two files hold the same bytes, compared without loading them whole."""
    with reading(str(other)):
        return filecmp.cmp(first, other, shallow=False)
