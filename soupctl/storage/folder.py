"""The files of a model's folder that are not its weights.

Rule 1: links to files are read, and links to folders followed where weights are found through them
as well: directly in the model's folder. A link to a folder that lies deeper is refused.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import InputError
from .regular import reading


def other_files(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Path]:
    """The wanted files in a folder and its subfolders, by their name relative to it.

    Hidden files and folders are left out. Raises InputError for what is no regular file, and for
    links to folders that lie deeper than in the folder itself or lead back to one that holds it.
    """
    found: dict[str, Path] = {}
    with reading(str(folder)):
        for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in folders:
                _require_followed(folder, Path(place, name))
            for path in _wanted(Path(place), files, wanted):
                found[path.relative_to(folder).as_posix()] = path
    return found


def files_in(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Path]:
    """The wanted files that lie in a folder itself, by their name; hidden ones are left out.

    Raises InputError for what is no regular file.
    """
    with reading(str(folder)):
        names = [path.name for path in folder.iterdir() if not path.is_dir()]
        return {path.name: path for path in _wanted(folder, names, wanted)}


def _wanted(place: Path, names: Iterable[str], wanted: Callable[[str], bool]) -> list[Path]:
    paths = [place / name for name in sorted(names) if not name.startswith(".") and wanted(name)]
    for path in paths:
        if not path.is_file():
            raise InputError("is neither a regular file nor a folder", path=path)
    return paths


def _require_followed(folder: Path, path: Path) -> None:
    """Raise InputError for a link to a folder that is not followed; it may lead in a circle."""
    if not path.is_symlink():
        return
    if path.parent != folder:
        raise InputError(
            "is a link to a folder, and not followed so deep in a model's folder",
            path=path,
            advice="put the folder itself there",
        )
    if folder.resolve().is_relative_to(path.resolve()):
        raise InputError("is a link to a folder that it lies in", path=path)


def _refuse(error: OSError) -> None:
    raise error


def equal_bytes(first: Path, other: Path) -> bool:
    """Whether two files hold the same bytes, compared without loading them whole."""
    with reading(str(other)):
        return filecmp.cmp(first, other, shallow=False)
