"""Components that the ingredients of a pipeline share, such as a VAE that was not trained.

Rule 1: equal content is one ingredient with the summed weight, in which pipelines cannot be told
apart; so a pipeline is identified by the components in which it differs from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..ledger.ledger import Ledger
from ..ledger.lookup import matching, not_found
from .opened_inputs import OpenedInputs
from .revision import Removal

Ledgers = Sequence[Ledger | None]
"""A soup's ledger by the position of its component."""


def is_shared(ledger: Ledger | None) -> bool:
    """Whether all ingredients of a pipeline have the same content in the ledger's component."""
    return ledger is not None and len(ledger.ingredients) == 1


def is_new(inputs: Sequence[OpenedInputs], model: Sequence[Checkpoint], ledgers: Ledgers) -> bool:
    """Whether any component of a pipeline has content that the soup does not hold."""
    if len(ledgers) < 2 or not all(ledgers):
        return False
    return any(
        bool(_contents(each, checkpoint) - {entry.digest for entry in ledger.ingredients})
        for each, checkpoint, ledger in zip(inputs, model, ledgers, strict=True)
        if ledger is not None
    )


def _contents(inputs: OpenedInputs, checkpoint: Checkpoint) -> set[str]:
    """The content that a checkpoint stands for: its own, or that of a soup's ingredients."""
    ledger = inputs.ledger(checkpoint)
    if ledger is None:
        return {checkpoint_digest(checkpoint)}
    if ledger.training is not None:
        # whether it fits the tensors is found out before it is computed with
        return {ledger.root}
    return {entry.digest for entry in ledger.ingredients}


def removal_by_component(
    removal: Removal,
    inputs: Sequence[OpenedInputs],
    model: Sequence[Checkpoint] | None,
    ledgers: Ledgers,
) -> tuple[Removal, ...]:
    """The removal for each component; `model` holds the open components of a pipeline.

    From a component that all ingredients share, the weight is removed that the pipeline has in
    those in which they differ. Raises LedgerError for a name that no component knows.
    """
    shared = [is_shared(ledger) for ledger in ledgers]
    if len(ledgers) < 2 or not any(shared) or all(shared):
        return (removal,) * len(ledgers)
    meant = [{removal.what}] * len(ledgers)
    if model is not None:
        meant = [_contents(*each) for each in zip(inputs, model, strict=True)]
    weights = [
        weight
        for texts, ledger in zip(meant, ledgers, strict=True)
        if ledger is not None and (weight := _weight(texts, ledger)) is not None
    ]
    apart = [ledger for ledger in ledgers if ledger is not None and not is_shared(ledger)]
    if model is None and apart and not weights:
        raise not_found(removal.what, apart[0])
    if removal.weight is not None or not weights:
        return (removal,) * len(ledgers)
    return tuple(
        _from_shared(removal, ledger, min(weights), named=model is None)
        if ledger is not None and is_shared(ledger)
        else removal
        for ledger in ledgers
    )


def _weight(texts: set[str], ledger: Ledger) -> Fraction | None:
    """The weight of the ingredients that are meant, where ingredients differ and they are in."""
    if is_shared(ledger) or not ledger.ingredients:
        return None
    found = {
        entry.digest: entry.weight
        for text in texts
        for entry in matching(text, ledger.ingredients, ledger.ancestors)
    }
    return sum(found.values(), Fraction(0)) if found else None


def _from_shared(removal: Removal, ledger: Ledger, weight: Fraction, *, named: bool) -> Removal:
    """The removal for a component that all ingredients share."""
    # the only entry may carry another ingredient's name
    what = ledger.ingredients[0].digest if named else removal.what
    return replace(removal, what=what, weight=weight or None)
