"""The files of a soup, and their digests.

Rule 1: those of a soup in a folder are all files in it, but for those of git and of downloads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..checkpoints.digest import tensor_hasher
from ..checkpoints.hashing import Progress, digest_file, ignore_progress
from ..checkpoints.layout import ModelFiles
from ..checkpoints.unchanged import FileSnapshot
from ..errors import InputError
from ..frozen import frozen
from ..storage.folder import leads_out
from ..storage.regular import reading
from .model_signature import IGNORED
from .statement import AttestedFile


@frozen
class SoupFiles:
    """The files of a soup by name, as they were when they were found."""

    name: str
    """The soup's own name."""
    is_folder: bool
    files: Mapping[str, FileSnapshot]
    """Sorted by name."""
    beside: tuple[str, ...]
    """Files in the soup's folder that are left out, and are none of git or of downloads."""


def soup_files(model: ModelFiles, left_out: Sequence[Path] = ()) -> SoupFiles:
    """The files of a soup; all but the paths `left_out`.

    Raises InputError for links out of its folder, links to folders, and what is no regular file.
    """
    if model.folder is None:
        ((path,),) = (each.files for each in model.components)
        return SoupFiles(path.name, False, {path.name: FileSnapshot.take(path)}, ())
    folder = Path(os.path.abspath(model.folder))
    without = {Path(os.path.abspath(each)) for each in left_out}
    with reading(model.label):
        found = {each.relative_to(folder).as_posix(): each for each in _walk(folder)}
    beside = tuple(name for name, path in sorted(found.items()) if path in without)
    kept = {
        name: FileSnapshot.take(path) for name, path in sorted(found.items()) if path not in without
    }
    return SoupFiles(folder.name, True, kept, beside)


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        is_top = Path(place) == folder
        for name in folders:
            if Path(place, name).is_symlink():
                raise InputError("is a link to a folder, and not attested", path=Path(place, name))
        folders[:] = [name for name in folders if not (is_top and name in IGNORED)]
        for name in files:
            path = Path(place, name)
            if is_top and name in IGNORED:
                continue
            _require_sound(path, folder)
            yield path


def _require_sound(path: Path, folder: Path) -> None:
    if not path.is_file():
        raise InputError("is neither a regular file nor a folder", path=path)
    if path.is_symlink() and leads_out(path, [folder]):
        raise InputError("is a link out of its folder, and not attested", path=path)
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise InputError("has a name that is not UTF-8", path=path) from None


def _refuse(error: OSError) -> None:
    raise error


def digests_of(found: SoupFiles, progress: Progress = ignore_progress) -> tuple[AttestedFile, ...]:
    """The digests of a soup's files, each read once.

    Raises InputError for unreadable files, OutputError for files that changed since.
    """
    return tuple(_digests(name, each, progress) for name, each in found.files.items())


def _digests(name: str, file: FileSnapshot, progress: Progress) -> AttestedFile:
    sha256, blake3 = hashlib.sha256(), tensor_hasher()

    def update(piece: bytes) -> None:
        sha256.update(piece)
        blake3.update(piece)

    digest_file(file.path, update, progress)
    file.require_unchanged()
    return AttestedFile(name, sha256.hexdigest(), blake3.hexdigest())
