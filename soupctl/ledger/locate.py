"""Find the files of a ledger's ingredients again, by content.

Rule 1: a hint or a name only says where to look; what counts is the content digest.
Rule 2: what lies at a hint is used as it is and digested in the pass; what a search finds is
digested before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint, open_checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import INDEX, PIPELINE, Component, find_model
from ..errors import InputError, SoupError
from .ledger import IngredientEntry, Runs, runs
from .names import hint, printable

SUFFIXES = (".safetensors", ".st", ".sft")


@dataclass(frozen=True, slots=True)
class Places:
    """Where ingredients may be."""

    soup_folder: Path | None
    """The folder that holds the soup, from which hints lead; None for a stream."""
    search: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be searched, with InputError."""
        for folder in self.search:
            if not folder.is_dir():
                raise InputError("is no folder to search", path=folder)

    variant: str | None = None


def locate(entry: IngredientEntry, places: Places) -> Component | None:
    """The checkpoint that has the content of `entry`, if it is found; see the rules above."""
    if places.soup_folder is not None and entry.hint is not None:
        # as it was made: without it a way through the soup's own folder seems to lie within it
        hinted = Path(os.path.normpath(places.soup_folder / entry.hint))
        component = _fitting(hinted, entry.dtypes, places.variant)
        if component and not (places.search and _digest(component) != entry.digest):
            return component
    for candidate in _candidates(entry, places.search):
        component = _fitting(candidate, entry.dtypes, places.variant)
        if component and _digest(component) == entry.digest:
            return component
    return None


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


def _fitting(path: Path, dtypes: Runs, variant: str | None) -> Component | None:
    """The one checkpoint at `path` if it has tensors of these dtypes in this order, by header."""
    try:
        (component,) = find_model(path, variant=variant).components
        with open_checkpoint(component, mapped=False) as checkpoint:
            return component if dtype_runs(checkpoint) == dtypes else None
    except (SoupError, ValueError):
        return None


def dtype_runs(checkpoint: Checkpoint) -> Runs:
    """The dtypes of a checkpoint's tensors, by name, as a ledger keeps them."""
    return runs(tensor.dtype for _, tensor in sorted(checkpoint.tensors.items()))


def _digest(component: Component) -> str:
    with open_checkpoint(component) as checkpoint:
        return checkpoint_digest(checkpoint)
