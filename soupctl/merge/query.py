"""What can be asked of a soup: what is in it, and how it came about."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ..checkpoints.open import find_input, open_input, require_same_components
from ..errors import LedgerError
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.read import read_ledger
from .membership import ledger_of
from .shared_components import is_shared
from .sources import RemovalTarget, called, is_input, resolve, ways_to


def holds(
    soup: str | Path, what: str, *, component: str | None = None
) -> tuple[IngredientEntry, ...] | None:
    """The entries of an ingredient in each component of a soup; None if one does not hold it.

    A soup among the ingredients holds its own: then the entry is that of the soup which was put in.
    `what` is a path, a content digest or a name in the ledger. Raises LedgerError for a soup
    without a ledger or with one that does not fit its tensors, and for a name of several.
    """
    model = find_input(soup, component)
    other = find_input(what, component) if is_input(what) else None
    if other is not None:
        require_same_components([model, other])
    found: list[IngredientEntry] = []
    with ExitStack() as stack:
        for position, each in enumerate(model.components):
            ledger = ledger_of(stack.enter_context(open_input(each)))
            leaver = RemovalTarget(
                None if other is None else other.components[position], what, None
            )
            names: tuple[str, ...] = (what,)
            if other is not None or called(what, ledger.ingredients, ledger.ancestors):
                names, _ = resolve(stack, ledger, leaver)
            entries = ways_to(names, ledger)
            if entries:
                found += entries
            elif other is not None or not is_shared(ledger) or len(model.components) == 1:
                return None
            # else all ingredients share it, whatever the one is called that gave it its name
    return tuple(found) or None


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
                raise LedgerError("has no ledger: it is no soup", path=checkpoint.shown)
            found.append((checkpoint.shown, ledger))
    return tuple(found)
