"""Questions about a soup: which ingredients it holds, and its history."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.open import find_input, open_input, require_same_components
from ..errors import LedgerError
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.lookup import containing, digests_of, matching
from ..ledger.read import read_ledger, require_model
from .membership import require_ledger
from .opened_inputs import OpenedInputs, is_input, open_model
from .shared_components import is_shared


def holds(
    soup: str | Path, what: str, *, component: str | None = None
) -> tuple[IngredientEntry, ...] | None:
    """The entries of an ingredient in each component of a soup; None if one does not hold it.

    An ingredient of a soup that is an ingredient itself is held, too: by the entry of that soup.
    `what` is a path, a content digest or a name in the ledger. Raises LedgerError for a soup
    without a ledger or with one that does not fit its tensors, and for a name of several.
    """
    model = find_input(soup, component)
    other = find_input(what, component) if is_input(what) else None
    if other is not None:
        require_same_components([model, other])
    found: list[IngredientEntry] = []
    with ExitStack() as stack:
        inputs = [OpenedInputs(stack) for _ in model.components]
        opened = open_model(inputs, model)
        others = None if other is None else open_model(inputs, other)
        for position, each in enumerate(inputs):
            ledger = require_ledger(each, opened[position])
            checkpoint = None if others is None else others[position]
            entries = containing(_meant(what, ledger, checkpoint), ledger)
            if not entries and (others or not is_shared(ledger) or len(inputs) == 1):
                return None
            # else all ingredients share the component, under the name of one of them
            found += entries
    return tuple(found) or None


def _meant(what: str, ledger: Ledger, checkpoint: Checkpoint | None) -> tuple[str, ...]:
    """The digests that are meant, or the text as it is if it matches none of the ingredients."""
    if checkpoint is not None:
        require_model(checkpoint)
        return (checkpoint_digest(checkpoint),)
    if matching(what, ledger.ingredients, ledger.ancestors):
        return digests_of(what, ledger, None)
    return (what,)


def history(
    soup: str | Path, *, component: str | None = None, variant: str | None = None
) -> tuple[tuple[str, Ledger], ...]:
    """Path and ledger of each component of a soup, from headers alone.

    Raises LedgerError for a component without a sound ledger.
    """
    found = []
    for each in find_input(soup, component, variant).components:
        with open_input(each, mapped=False) as checkpoint:
            ledger = read_ledger(checkpoint)
            if ledger is None:
                raise LedgerError("has no ledger: it is not a soup", path=checkpoint.label)
            found.append((checkpoint.label, ledger))
    return tuple(found)
