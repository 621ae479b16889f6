"""The files in a model's folder that are not weights.

Rule 1: links are followed where the caller allows it; in a model, those to folders only directly in
its folder, as for weights. A link to a folder that lies deeper is refused there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import InputError
from .regular import reading


def everything(_path: Path) -> bool:
    """A filter that accepts every link."""
    return True


def other_files(
    folder: Path,
    wanted: Callable[[str], bool],
    is_followed: Callable[[Path], bool] = everything,
    *,
    of_data: bool = False,
) -> dict[str, Path]:
    """The wanted files in a folder and its subfolders, by their path relative to it.

    Hidden files and folders are left out, and links that are not followed. Raises InputError for
    special files, for links to folders below the top level, and for links to a folder that contains
    them. In a folder `of_data`, links to folders may be anywhere, and special files and links to
    nothing are found, too.
    """
    found: dict[str, Path] = {}
    with reading(str(folder)):
        for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and _is_followed(Path(place, name), is_followed)
            )
            for name in folders:
                _require_followed(folder, Path(place, name), of_data)
            followed = [name for name in files if _is_followed(Path(place, name), is_followed)]
            for path in _wanted(Path(place), followed, wanted, of_data):
                found[path.relative_to(folder).as_posix()] = path
    return found


def _is_followed(path: Path, is_followed: Callable[[Path], bool]) -> bool:
    return not path.is_symlink() or is_followed(path)


def leads_out(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path leads, through links, out of all these folders.

    The files of a snapshot in the hub's cache are links to its blobs, which count as inside.
    """
    real = Path(os.path.realpath(path))
    for folder in folders:
        root = Path(os.path.realpath(folder))
        caches = [each.parent for each in root.parents if each.name == "snapshots"]
        if real.is_relative_to(root) or any(real.parent == cache / "blobs" for cache in caches):
            return False
    return True


def files_in(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Path]:
    """The wanted files directly in a folder, by name; hidden files are left out.

    Raises InputError for special files.
    """
    with reading(str(folder)):
        names = [path.name for path in folder.iterdir() if not path.is_dir()]
        return {path.name: path for path in _wanted(folder, names, wanted)}


def _wanted(
    place: Path, names: Iterable[str], wanted: Callable[[str], bool], of_data: bool = False
) -> list[Path]:
    paths = [place / name for name in sorted(names) if not name.startswith(".") and wanted(name)]
    for path in paths:
        if not of_data and not path.is_file():
            raise InputError("is neither a regular file nor a folder", path=path)
    return paths


def _require_followed(folder: Path, path: Path, anywhere: bool) -> None:
    """Raise InputError for a link to a folder that is too deep to follow, or leads in a circle."""
    if not path.is_symlink():
        return
    if path.parent != folder and not anywhere:
        raise InputError(
            "is a link to a folder, and not followed so deep in a model's folder",
            path=path,
            advice="put the folder itself there",
        )
    if path.parent.resolve().is_relative_to(path.resolve()):
        raise InputError("is a link to a folder that it lies in", path=path)


def _refuse(error: OSError) -> None:
    raise error


def equal_bytes(first: Path, other: Path) -> bool:
    """Whether two files hold the same bytes; neither is loaded whole."""
    # imported late, because most commands compare no files
    import filecmp  # noqa: PLC0415

    with reading(str(other)):
        return filecmp.cmp(first, other, shallow=False)
