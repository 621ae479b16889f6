"""Finding the files of a ledger's ingredients by content.

Rule 1: a hint or a name is only a place to look; only the content digest identifies a file.
Rule 2: a file at the only place to look is used at once and digested in the pass; with several
places to look, files are digested before one is used.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import SUFFIXES
from ..checkpoints.listing import PIPELINE
from ..checkpoints.preference import INDEX
from ..checkpoints.remote.address import ADDRESS
from .ledger import IngredientEntry, Runs, runs
from .names import hint, printable

Opener = Callable[[Path], Checkpoint | None]
"""Opens the checkpoint at a path; None if there is not exactly one."""


class FolderSearch:
    """The checkpoints in some folders by content; each file is listed, opened and digested once."""

    def __init__(self, folders: Sequence[Path], open_at: Opener) -> None:
        self._folders = tuple(folders)
        self._open_at = open_at
        self._by_name: dict[str, list[Path]] | None = None
        self._unopened: Iterator[Path] = iter(())
        self._undigested: dict[Runs, deque[Checkpoint]] = {}
        self._by_digest: dict[str, Checkpoint] = {}

    def __bool__(self) -> bool:
        return bool(self._folders)

    def find(self, entry: IngredientEntry) -> Checkpoint | None:
        """The checkpoint with the content of `entry`, preferably one of its name."""
        for path in self._named(entry.name):
            found = self._open_at(path)
            if _fits(found, entry) and checkpoint_digest(found) == entry.digest:
                return found
        for found in self._more(entry):
            digest = checkpoint_digest(found)
            self._by_digest.setdefault(digest, found)
            if digest == entry.digest:
                break
        return self._by_digest.get(entry.digest)

    def _named(self, name: str) -> Iterator[Path]:
        """The paths that end with a name; the first call lists all."""
        if self._by_name is None:
            paths = [path for folder in self._folders for path in checkpoints_in(folder)]
            self._by_name = {}
            for path in paths:
                self._by_name.setdefault(path.name, []).append(path)
            self._unopened = iter(paths)
        last = PurePosixPath(name).name
        return (each for each in self._by_name.get(last, ()) if each.as_posix().endswith(name))

    def _more(self, entry: IngredientEntry) -> Iterator[Checkpoint]:
        """The remaining checkpoints with the entry's dtypes, not yet digested."""
        if entry.digest in self._by_digest:
            return
        waiting = self._undigested.setdefault(entry.dtypes, deque())
        while waiting:
            yield waiting.popleft()
        for path in self._unopened:
            found = self._open_at(path)
            if _fits(found, entry):
                yield found
            elif found is not None:
                self._undigested.setdefault(dtype_runs(found), deque()).append(found)


def locate(
    entry: IngredientEntry, soup_folder: Path | None, search: FolderSearch, open_at: Opener
) -> Checkpoint | None:
    """The open checkpoint with the content of `entry`, None if not found; see the rules above.

    Hints are relative to `soup_folder`, which holds the soup; None for a stream.
    """
    places = [Path(hint) for hint in entry.hints if is_followed(hint)]
    if soup_folder is not None:
        places += [soup_folder / hint for hint in entry.hints if not is_address(hint)]
    for place in places:
        # as written, because a resolved path through the soup's own folder would seem to lie within
        # it
        found = open_at(Path(os.path.normpath(place)))
        is_only = len(places) == 1 and not search
        if _fits(found, entry) and (is_only or checkpoint_digest(found) == entry.digest):
            return found
    return search.find(entry) if search else None


def _fits(checkpoint: Checkpoint | None, entry: IngredientEntry) -> TypeGuard[Checkpoint]:
    """Whether a checkpoint has tensors of the ingredient's dtypes in their order, by its header."""
    return checkpoint is not None and dtype_runs(checkpoint) == entry.dtypes


def is_address(hint: str) -> bool:
    """Whether a hint is an address on a server."""
    return "://" in hint and ADDRESS.fullmatch(hint) is not None


def is_followed(hint: str) -> bool:
    """Whether a hint is an address to look at without being asked: of the hub, if that is usable.

    A ledger may come from anyone, and no other server is asked because it says so.
    """
    return hint.startswith("hf://") and find_spec("huggingface_hub") is not None


def hint_from(text: str | None, old: Path | None, new: Path | None) -> str | None:
    """A hint relative to the folder `new`, for the path that `text` means relative to `old`."""
    if text is None or is_address(text):
        return text
    if old is None or new is None:
        return printable(Path(text).name)
    return hint(os.path.abspath(old / text), os.path.abspath(new))


def checkpoints_in(folder: Path) -> Iterator[Path]:
    """Every checkpoint below a folder: files, and folders that are one of several files."""
    for place, folders, found in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [name for name in found if not name.startswith(".")]
        if PIPELINE not in files and any(INDEX.search(name) for name in files):
            yield Path(place)
        yield from (Path(place, name) for name in sorted(files) if name.endswith(SUFFIXES))


def dtype_runs(checkpoint: Checkpoint) -> Runs:
    """The dtypes of a checkpoint's tensors, by name, as a ledger keeps them."""
    return runs(tensor.dtype for _, tensor in sorted(checkpoint.tensors.items()))
