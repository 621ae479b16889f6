"""Whether an output may replace an existing folder.

Rule 1: only what soupctl made is replaced: every checkpoint in the folder must have a ledger, or
the record of a conversion.
Rule 2: every other file in the folder must have a successor of the same name in the new output,
except the old soup's configs, and its weights that an index lists: another number of shards has
other names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from stat import S_ISDIR, S_ISREG

from ..checkpoints.checkpoint import open_checkpoint
from ..checkpoints.config_files import is_config
from ..checkpoints.layout import Component, find_model
from ..checkpoints.listing import LISTINGS
from ..errors import OutputError, SoupError
from ..ledger.ledger import CONVERTED_KEY, LEDGER_KEY


def may_replace_with(target: Path, names: Collection[str]) -> Callable[[Path], bool]:
    """Whether an output of files called `names` may replace the folder at a path.

    Returns False for a folder that is not a soup; raises OutputError for a file that would be lost.
    """

    def may_replace(folder: Path) -> bool:
        while True:
            before = _inode(folder)
            components = _soup_in(folder)
            foreign = None if components is None else _foreign(folder, components, names)
            # another process may replace the folder while it is inspected
            if before is None or _inode(folder) in (before, None):
                break
        if foreign is not None:
            raise OutputError(
                f"holds {foreign}, which the new output does not have, and is not replaced",
                path=target,
                advice="choose another output, or move that away",
            )
        return components is not None

    return may_replace


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _soup_in(folder: Path) -> tuple[Component, ...] | None:
    """The checkpoints in a folder, if soupctl made each."""
    try:
        components = find_model(folder).components
        for component in components:
            with open_checkpoint(component) as checkpoint:
                if checkpoint.metadata.keys().isdisjoint((LEDGER_KEY, CONVERTED_KEY)):
                    return None
    except SoupError:
        return None
    return components


def _foreign(folder: Path, components: Collection[Component], names: Collection[str]) -> str | None:
    """The first file in a soup's folder that is neither its own nor in the new output.

    Links and other special files always count; a folder does if its name is that of a file.
    """
    kept = {*names, *_indexed_files(folder, components)}
    around = {str(parent) for name in kept for parent in PurePosixPath(name).parents}
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted((*folders, *files)):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue
            is_own = relative in kept or (is_config(name) and name not in LISTINGS)
            if not ((S_ISREG(mode) and is_own) or (S_ISDIR(mode) and relative in around)):
                return relative
    return None


def _indexed_files(folder: Path, components: Collection[Component]) -> set[str]:
    """Weights that an index lists, and the index, by their names relative to the folder."""
    return {
        path.relative_to(folder).as_posix()
        for component in components
        if component.folder is not None and component.index_name is not None
        for path in (*component.files, component.folder / component.index_name)
    }
