"""The input whose configs are used where inputs differ, and its record in the ledger.

Rule 1: a ledger names the source of configs only as long as it is an ingredient of the soup.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.hub import snapshot_of
from ..checkpoints.layout import ModelFiles
from ..errors import UsageError

if TYPE_CHECKING:
    from .revised_component import RevisedComponent


def config_source(named: str | Path | None, models: Sequence[ModelFiles]) -> int | None:
    """The index of the input that `named` names, by the same or another path; None for None.

    Raises UsageError if it is not an input, or is a file.
    """
    if named is None:
        return None
    place = next((place for place, model in enumerate(models) if _is_named(named, model)), None)
    if place is None:
        labels = ", ".join(dict.fromkeys(model.label for model in models))
        raise UsageError("--config-from names no input", path=named, advice=f"one of {labels}")
    if models[place].folder is None:
        what = "is a file, which has no configs of its own"
        raise UsageError(what, path=named, advice="--config-from names a folder")
    return place


def folder_at(place: int | None, models: Sequence[ModelFiles]) -> Path | None:
    """The folder of the input with an index; None for None."""
    return None if place is None else models[place].folder


def _is_named(named: str | Path, model: ModelFiles) -> bool:
    if str(named) == model.label:
        return True
    places = [place for place in (model.folder, Path(model.label)) if place is not None]
    meant = os.path.realpath(snapshot_of(Path(named)))
    return meant in {os.path.realpath(place) for place in places}


def recorded_sources(
    components: Sequence[RevisedComponent], place: int | None
) -> tuple[tuple[str | None, str | None], ...]:
    """For each component of a changed soup, the recorded source of configs, and a note or None.

    `place` is the index of the input that was named, 0 for the soup itself, or None. A source that
    is removed from one component is recorded for none: the folders of the others held its configs,
    too.
    """
    sources = [_source_of(each, place) for each in components]
    lost = [
        entry
        for each, source in zip(components, sources, strict=True)
        for entry in each.members.before.ingredients
        if entry.digest == source and source not in _held(each)
    ]
    if lost:
        return ((None, _gone(lost[0].name)),) * len(components)
    return tuple((source, None) for source in sources)


def _gone(name: str) -> str:
    """The note on a source of configs that is removed from the soup."""
    return (
        f"configs were taken from {name}, which is no longer in the soup: the soup's own stay as"
        " they are, and its ledger no longer names their source"
    )


def _source_of(component: RevisedComponent, place: int | None) -> str | None:
    """The content digest of the ingredient that gave the configs, if known."""
    change = component.change
    if not place:
        # a soup without a ledger is an ingredient itself
        given = place is not None and change.revision.total is not None
        return change.before.root if given else change.before.config_from
    whole = change.added_pipelines[place - 1]
    if whole.ledger is None or not whole.is_soup:
        return checkpoint_digest(change.added[place - 1])
    # an added soup counts as its own ingredients
    source = whole.ledger.config_from
    return source if source in _held(component) else None


def _held(component: RevisedComponent) -> set[str]:
    return {entry.digest for entry in component.members.after}
