"""What a soup's ledger does not know of its ingredients, so that no is not proven.

Rule 1: only headers are read; a file at a hint proves nothing, it only raises doubts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.layout import find_model
from ..checkpoints.open import open_input
from ..errors import SoupError
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.lookup import every_entry
from ..ledger.read import read_ledger
from .answer import Known, cannot_tell
from .opened_inputs import folder_of

GIVEN = "given"
"""The operation in the ledger of a soup whose weight was declared, as it had no ledger."""

ASK_ITSELF = "ask has about a copy of that file from a source that you trust"


@dataclass(frozen=True, slots=True)
class Placed:
    """An ingredient of a soup or of a soup among its ingredients, and what is at its hint."""

    entry: IngredientEntry
    known: Ledger | None
    """What the soup's ledger knows of it, if it is a soup or was trained."""
    path: Path | None
    """Where its hint leads; None if that is not known."""
    own: Ledger | None
    """The ledger at that place, if it is one of this content."""


def placed(folder: Path | None, ledger: Ledger) -> Iterator[Placed]:
    """Every ingredient that a ledger knows of, each content once; hints lead from `folder`."""
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
    """The ledger of the one checkpoint at a path, if it claims to be that of this content."""
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
    """Reasons why an ingredient may hold more than the ledger knows, each with advice."""
    held = {entry.digest: entry.name for entry in ledger.sources}
    soups = (ledger, *ledger.ancestors.values())
    for state in (state for soup in soups for state in soup.states):
        if state.operation == GIVEN and state.root in held:
            what = f"{held[state.root]} was a soup without a ledger"
            yield what, "ask those who made it"
    names = {entry.digest: entry.name for entry in every_entry(ledger)}
    for digest in ledger.disputed:
        name = names.get(digest, digest)
        yield f"ledgers of what it is made of contradict each other about {name}", ASK_ITSELF
    for each in placed(folder, ledger):
        if each.own is None or each.own.training is not None:
            continue
        advice = f"has {_shown(each.path)} X answers for that soup"
        if each.known is None:
            yield f"{each.entry.name} is a soup whose ledger is not part of this one", advice
        elif _contents(each.own) != _contents(each.known):
            yield f"two ledgers of {each.entry.name} contradict each other", advice


def _shown(path: Path | None) -> Path | None:
    """A path as short as it can be written from the current folder."""
    if path is not None and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd())
    return path


def _contents(ledger: Ledger) -> set[str]:
    return {entry.digest for entry in ledger.sources}
