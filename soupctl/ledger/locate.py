"""Finds the files of a ledger's ingredients by content.

Rule 1: a hint or a name only says where to look; what counts is the content digest.
Rule 2: what lies at a hint is used as it is and digested in the pass; what a search finds is
digested before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeGuard

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import INDEX, PIPELINE
from .ledger import IngredientEntry, Runs, runs
from .names import hint, printable

SUFFIXES = (".safetensors", ".st", ".sft")


def locate(
    entry: IngredientEntry,
    soup_folder: Path | None,
    search: Sequence[Path],
    open_at: Callable[[Path], Checkpoint | None],
) -> Checkpoint | None:
    """The open checkpoint that has the content of `entry`, if it is found; see the rules above.

    Hints lead from `soup_folder`, which holds the soup; None for a stream. `open_at` opens the one
    checkpoint at a path, and gives None for a path that is none.
    """
    if soup_folder is not None and entry.hint is not None:
        # as it was made: without it a way through the soup's own folder seems to lie within it
        found = open_at(Path(os.path.normpath(soup_folder / entry.hint)))
        if _fits(found, entry) and not (search and checkpoint_digest(found) != entry.digest):
            return found
    for path in _candidates(entry, search):
        found = open_at(path)
        if _fits(found, entry) and checkpoint_digest(found) == entry.digest:
            return found
    return None


def _fits(checkpoint: Checkpoint | None, entry: IngredientEntry) -> TypeGuard[Checkpoint]:
    """Whether a checkpoint has tensors of the ingredient's dtypes in their order, by its header."""
    return checkpoint is not None and dtype_runs(checkpoint) == entry.dtypes


def hint_from(text: str | None, old: Path | None, new: Path | None) -> str | None:
    """The hint that leads from the folder `new` to where `text` leads from `old`."""
    if text is None:
        return None
    if old is None or new is None:
        return printable(Path(text).name)
    return hint(os.path.abspath(old / text), os.path.abspath(new))


def _candidates(entry: IngredientEntry, folders: Sequence[Path]) -> Iterator[Path]:
    """Checkpoints in the folders, those of the ingredient's name first."""
    later = []
    for folder in folders:
        for path in checkpoints_in(folder):
            if path.as_posix().endswith(entry.name):
                yield path
            else:
                later.append(path)
    yield from later


def checkpoints_in(folder: Path) -> Iterator[Path]:
    """Every checkpoint below a folder: files, and folders that are one of several files."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if PIPELINE not in files and any(INDEX.search(name) for name in files):
            yield Path(place)
        yield from (Path(place, name) for name in sorted(files) if name.endswith(SUFFIXES))


def dtype_runs(checkpoint: Checkpoint) -> Runs:
    """The dtypes of a checkpoint's tensors, by name, as a ledger keeps them."""
    return runs(tensor.dtype for _, tensor in sorted(checkpoint.tensors.items()))
