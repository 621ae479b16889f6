"""Components that the ingredients of a pipeline share, such as a VAE that was not trained.

Rule 1: the same content is one ingredient of the summed weight, which does not tell whose is whose;
so a pipeline is told from others by the components in which it differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component, Model
from ..checkpoints.open import open_input
from ..ledger.ledger import Ledger
from ..ledger.read import read_ledger
from .sources import RemovalTarget, called, unknown

Ledgers = Sequence[Ledger | None]
"""A soup's ledger by the position of its component."""


def ledgers_of(soup: Model) -> tuple[Ledger | None, ...]:
    """The ledgers of a pipeline's components; none of a stream, which can be read only once."""
    if not all(component.files for component in soup.components):
        return (None,) * len(soup.components)
    found = []
    for component in soup.components:
        with open_input(component, mapped=False) as checkpoint:
            found.append(read_ledger(checkpoint))
    return tuple(found)


def is_shared(ledger: Ledger | None) -> bool:
    """Whether all ingredients of a pipeline have the same content in the ledger's component."""
    return ledger is not None and len(ledger.ingredients) == 1


def is_new(model: Model, ledgers: Ledgers) -> bool:
    """Whether a pipeline has content, in whatever component, that the soup does not hold."""
    if len(ledgers) < 2 or not all(ledgers):
        return False
    return any(
        bool(_contents(component) - {entry.digest for entry in ledger.ingredients})
        for component, ledger in zip(model.components, ledgers, strict=True)
        if ledger is not None
    )


def _contents(component: Component) -> set[str]:
    """The content that a component stands for: its own, or that of a soup's ingredients."""
    with open_input(component) as checkpoint:
        ledger = read_ledger(checkpoint)
        if ledger is None:
            return {checkpoint_digest(checkpoint)}
        if ledger.training is not None:
            # whether it fits the tensors is found out before it is computed with
            return {ledger.root}
        return {entry.digest for entry in ledger.ingredients}


def by_component(
    leaver: RemovalTarget, model: Model | None, ledgers: Ledgers
) -> tuple[RemovalTarget, ...]:
    """What is taken out of each component.

    Where all ingredients share a component, that is the weight that is taken out of those in which
    they differ. Raises LedgerError for what is neither a pipeline nor known to any of these.
    """
    shared = [is_shared(ledger) for ledger in ledgers]
    weights = _weights(leaver, model, ledgers)
    if any(shared) and not all(shared) and model is None and not weights:
        raise unknown(leaver.what, next(each for each in ledgers if each and not is_shared(each)))
    if leaver.weight is not None or not any(shared) or all(shared):
        weights = []
    return tuple(
        _leaver(leaver, model, position, ledger, min(weights) if weights and is_shared else None)
        for position, (ledger, is_shared) in enumerate(zip(ledgers, shared, strict=True))
    )


def _weights(leaver: RemovalTarget, model: Model | None, ledgers: Ledgers) -> list[Fraction]:
    """What the leaver weighs in the components in which ingredients differ, where it is."""
    found = []
    for position, ledger in enumerate(ledgers):
        if ledger is None or len(ledger.ingredients) < 2:
            continue
        known = {leaver.what} if model is None else _contents(model.components[position])
        meant = {
            entry.digest: entry
            for what in known
            for entry in called(what, ledger.ingredients, ledger.ancestors)
        }
        if meant:
            found.append(sum((entry.weight for entry in meant.values()), Fraction(0)))
    return found


def _leaver(
    leaver: RemovalTarget,
    model: Model | None,
    position: int,
    ledger: Ledger | None,
    weight: Fraction | None,
) -> RemovalTarget:
    if model is not None:
        return RemovalTarget(model.components[position], leaver.what, weight or leaver.weight)
    if weight is None or ledger is None:
        return RemovalTarget(None, leaver.what, leaver.weight)
    # it may be called by another ingredient's name
    return RemovalTarget(None, ledger.ingredients[0].digest, weight)
