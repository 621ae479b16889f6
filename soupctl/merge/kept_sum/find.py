"""Finding the sum that is kept beside a soup.

Rule 1: no sum is opened through a link, and nothing is taken for a sum that is none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ...checkpoints.checkpoint import Checkpoint, open_checkpoint
from ...checkpoints.digest import text_digest
from ...checkpoints.layout import Component, ModelFiles, find_model
from ...errors import (
    OutputError,
    SoupError,
    UnreadableError,
)
from ...ledger.ledger import Ledger
from ...ledger.read import is_sum, read_ledger
from ...storage.regular import reading
from .format import SUFFIX, sum_name

ONLY = "sum"
"""Stem of the name of the only file in the folder of a sum."""


def sum_place(soup: Path, roots: Mapping[str, str]) -> Path:
    """The path of the sum of a soup whose components have these content digests.

    A link stands for what it leads to.
    """
    with reading(str(soup)):
        final = Path(os.path.realpath(soup)) if soup.is_symlink() else soup
    return final.with_name(sum_name(final.name, roots, text_digest))


def find_sum(soup: ModelFiles, roots: Sequence[str | None]) -> tuple[Component, ...] | None:
    """The sums of a soup, one for each component; None if it has none.

    They lie beside the soup, or a link to it, under its name, or under an earlier name of a soup
    that was renamed. `roots` are the content digests in the ledgers of the soup's components; None
    for a component that is not a soup.
    """
    path = _path_of(soup)
    if path is None:
        return None
    known = {}
    for component, root in zip(soup.components, roots, strict=True):
        if root is None:
            return None
        known[component.name] = root
    places = (sum_place(path, known), path.with_name(sum_name(path.name, known, text_digest)))
    found = next((place for place in places if os.path.lexists(place)), None)
    found = found or _orphan(places[0].parent, sum_name("", known, text_digest))
    if found is None:
        return None
    if soup.folder is None:
        return (Component("", str(found), (found,)),)
    files = [(name, found / file_name(name)) for name in known]
    return tuple(Component(name, str(file), (file,)) for name, file in files)


def _orphan(folder: Path, suffix: str) -> Path | None:
    """A kept sum in a folder whose name ends so, and after whose beginning nothing is called."""
    places: list[Path] = []
    # a folder that can be entered may still be impossible to list
    with suppress(OSError):
        places = sorted(folder.iterdir())
    for place in places:
        soup = place.name.removesuffix(suffix)
        if soup in ("", place.name) or not _is_free(place.with_name(soup)):
            continue
        if is_kept_sum(place):
            return place
    return None


def _is_free(place: Path) -> bool:
    """Whether nothing has this name; what cannot be looked at may be there."""
    try:
        place.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def is_kept_sum(place: Path) -> bool:
    """Whether a file is a sum, or a folder holds sums and nothing else; no link is either.

    Raises UnreadableError for what cannot be read.
    """
    try:
        with reading(str(place)):
            if place.is_symlink():
                return False
            files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            with open_checkpoint(Component("", str(file), (file,))) as checkpoint:
                if not is_sum(checkpoint):
                    return False
    except UnreadableError:
        raise
    except SoupError:
        return False
    return bool(files)


def recorded_root(checkpoint: Checkpoint, ledger: Ledger | None) -> str | None:
    """The content digest in a soup's ledger; None for a plain checkpoint or a sum."""
    return None if ledger is None or is_sum(checkpoint) else ledger.root


def replaced_sum(output: Path | None) -> Path | None:
    """Where the sum is of the soup that an output takes the place of; None if there is none.

    Raises OutputError if that cannot be read: its sum would stay, and what it holds of models.
    """
    try:
        with reading(str(output)):
            if output is None or not output.exists():
                return None
        model = find_model(output)
        if not _may_have_sum(model):
            _require_headers(model)
            return None
        found = find_sum(model, [_root_at(component) for component in model.components])
    except UnreadableError as error:
        what = f"is not replaced, since it may have a kept sum and {error.args[0]}"
        raise OutputError(what, path=output, advice="move it away first") from None
    except SoupError:
        return None
    if found is None:
        return None
    place = found[0].path
    return place if output.is_file() else place.parent


def _may_have_sum(soup: ModelFiles) -> bool:
    """Whether a sum of any soup lies beside this one, as far as is known.

    If not, its ledger need not be read for the digest that its own sum would be named after.
    """
    path = _path_of(soup)
    if path is None:
        return False
    try:
        places = {path.parent, Path(os.path.realpath(path)).parent}
        return any(each.suffix == SUFFIX for place in places for each in place.iterdir())
    except OSError:
        # a folder that can be entered may still be impossible to list
        return True


def _require_headers(model: ModelFiles) -> None:
    """Raise a SoupError for a model that cannot be opened."""
    for component in model.components:
        with open_checkpoint(component):
            pass


def _root_at(component: Component) -> str | None:
    with open_checkpoint(component) as checkpoint:
        return recorded_root(checkpoint, read_ledger(checkpoint))


def _path_of(soup: ModelFiles) -> Path | None:
    """The path with which the name of the soup's sum begins."""
    if soup.folder is None and not soup.components[0].files:
        return None
    path = soup.folder or soup.components[0].files[0]
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))
    return path if path.name else None


def file_name(component: str) -> str:
    """The name of a component's file in the folder of a sum."""
    return f"{component or ONLY}.safetensors"
