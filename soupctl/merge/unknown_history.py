"""Gaps in a soup's ledger, which prevent a proof that it does not hold something.

Rule 1: only headers are read; a file at a hint proves nothing, but can raise doubts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..checkpoints.layout import find_model
from ..checkpoints.open import open_input
from ..errors import SoupError
from ..frozen import frozen
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.lookup import every_entry
from ..ledger.read import read_ledger
from .answer import Known, cannot_tell
from .opened_inputs import folder_of

GIVEN = "given"
"""The operation in a ledger for a soup that had none, whose weight was declared."""

ASK_ITSELF = "ask has about a copy of that file from a source that you trust"


@frozen
class Placed:
    """An ingredient of a soup, or of a soup among its ingredients, and the file at its hint."""

    entry: IngredientEntry
    known: Ledger | None
    """Its ledger within the soup's, if it is a soup or was trained."""
    path: Path | None
    """The path of its hint; None if unknown."""
    own: Ledger | None
    """The ledger of the file there, if that claims this content."""


def placed(folder: Path | None, ledger: Ledger) -> Iterator[Placed]:
    """Every ingredient in a ledger, each content once; hints are relative to `folder`."""
    seen = set()
    waiting = [(folder, ledger)]
    while waiting:
        place, soup = waiting.pop()
        for entry in soup.sources:
            if entry.digest in seen:
                continue
            seen.add(entry.digest)
            path = None
            if place is not None and entry.hint is not None:
                path = Path(os.path.normpath(place / entry.hint))
            own = None if path is None else _ledger_at(path, entry.digest)
            known = ledger.ancestors.get(entry.digest)
            yield Placed(entry, known, path, own)
            if known is not None:
                waiting.append((None if path is None else path.parent, known))


def _ledger_at(path: Path, digest: str) -> Ledger | None:
    """The ledger of the checkpoint at a path, if it claims this content."""
    try:
        (component,) = find_model(path).components
        with open_input(component) as checkpoint:
            ledger = read_ledger(checkpoint)
    except (SoupError, ValueError):
        return None
    return ledger if ledger is not None and ledger.root == digest else None


def require_known(what: str | Path, soup: str, known: Known) -> None:
    """Raise UsageError if part of a soup's history is unknown or contradictory."""
    for checkpoint, ledger in known:
        for reason, advice in _doubts(folder_of(checkpoint), ledger):
            raise cannot_tell(what, soup, reason, advice)


def _doubts(folder: Path | None, ledger: Ledger) -> Iterator[tuple[str, str]]:
    """Reasons why an ingredient may hold more than its ledger says, each with advice."""
    held = {entry.digest: entry.name for entry in ledger.sources}
    soups = (ledger, *ledger.ancestors.values())
    for state in (state for soup in soups for state in soup.states):
        if state.operation == GIVEN and state.root in held:
            what = f"{held[state.root]} was a soup without a ledger"
            yield what, "ask those who made it"
    names = {entry.digest: entry.name for entry in every_entry(ledger)}
    for digest in ledger.disputed:
        name = names.get(digest, digest)
        yield f"the ledgers of its ingredients contradict each other about {name}", ASK_ITSELF
    for each in placed(folder, ledger):
        if each.own is None or each.own.training is not None:
            continue
        advice = f"has {_shown(each.path)} X answers for that soup"
        if each.known is None:
            yield f"{each.entry.name} is a soup whose ledger is not part of this one", advice
        elif _contents(each.own) != _contents(each.known):
            yield f"two ledgers of {each.entry.name} contradict each other", advice


def _shown(path: Path | None) -> Path | None:
    """The shortest form of a path, relative to the current folder."""
    if path is not None and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd())
    return path


def _contents(ledger: Ledger) -> set[str]:
    return {entry.digest for entry in ledger.sources}
