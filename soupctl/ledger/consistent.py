"""Checks of a ledger that was read: whether its fields fit each other.

Rule 1: what is refused here is something that no command ever writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from ..choices import OnMissing
from .entries import merged
from .ledger import Change, IngredientEntry, Ledger, PipelineShare
from .weights import require_positive_total


def require_consistent(ledger: Ledger) -> None:
    """Raise ValueError or UsageError for a ledger whose fields contradict each other."""
    _require_entries(ledger)
    _require_blocks(ledger)
    _require_base(ledger)
    _require_method(ledger)
    _require_sum(ledger)


def _require_entries(ledger: Ledger) -> None:
    """Raise ValueError for ingredients or donors that soupctl would not record so."""
    if ledger.training is not None:
        if ledger.ingredients or ledger.chain or ledger.base is not None:
            raise ValueError("it is a soup as well")
    elif ledger.base is None:
        models = [each for each in ledger.ingredients if each.digest not in ledger.deltas]
        require_positive_total([each.weight for each in models])
    digests = [entry.digest for entry in ledger.ingredients]
    # most of thousands of entries have nothing else that could be merged
    others = tuple(each for each in ledger.ingredients if each.pipelines or each.blocks)
    if digests != sorted(set(digests)) or merged(others) != others:
        raise ValueError("its ingredients are not sorted, not unique, or have no weight")
    donors = [entry.digest for entry in ledger.donors]
    if sorted(set(donors) & {digest for _, digest in ledger.takes}) != donors:
        raise ValueError("its donors are not sorted, not unique, or give nothing")
    configs = ledger.config_from
    if configs is not None and configs not in {entry.digest for entry in ledger.ingredients}:
        raise ValueError("its source of configs is not among its ingredients")


def _require_blocks(ledger: Ledger) -> None:
    """Raise ValueError unless weights by block are one for each block, and not all equal."""
    shares = (share for entry in ledger.ingredients for share in entry.pipelines)
    changes = (change for state in ledger.states for change in state.changed)
    every: Iterable[IngredientEntry | PipelineShare | Change] = chain(
        ledger.ingredients, shares, changes
    )
    told = [each for each in every if each.blocks]
    right = all(
        len(each.blocks) == len(ledger.blocks) and each.blocks == each.weights.blocks
        for each in told
    )
    if not right or bool(told) != bool(ledger.blocks):
        raise ValueError("its weights by block do not fit its blocks")


def _require_base(ledger: Ledger) -> None:
    """Raise ValueError for a base that is not an ingredient, or a delta of other weights."""
    held = {entry.digest for entry in ledger.ingredients}
    if list(ledger.deltas) != sorted(held & {*ledger.deltas}):
        raise ValueError("its deltas are not sorted, not unique, or not among its ingredients")
    if ledger.base is None:
        return
    if ledger.deltas:
        raise ValueError("it has a base, and a mean that deltas are added to")
    if abs(ledger.base_weight) != 1:
        raise ValueError("its base is not among its ingredients, or has a weight of its own")
    if any(each.blocks for each in ledger.ingredients if each.digest == ledger.base):
        raise ValueError("its base has weights by block")
    weights = sorted(entry.weight for entry in ledger.ingredients)
    # of a checkpoint minus itself, the base alone is left
    are_two = weights in ([-1, 1], [-1])
    if ledger.is_delta and (not are_two or ledger.chain or ledger.blocks):
        raise ValueError("it is a delta, but not of one checkpoint and its base")


def _require_method(ledger: Ledger) -> None:
    """Raise ValueError for a method that combines other ingredients, or has been changed since."""
    if ledger.method is None:
        return
    order = ledger.method.order
    if set(order) != {entry.digest for entry in ledger.ingredients}:
        raise ValueError("its method combines other ingredients")
    if ledger.base is not None and order[0] != ledger.base:
        raise ValueError("its method does not begin with its base")
    if ledger.chain or ledger.deltas or ledger.blocks:
        raise ValueError("its method is not all that made it")


def _require_sum(ledger: Ledger) -> None:
    """Raise ValueError for a sum that is not divided but is no plain sum of ingredients."""
    if ledger.normalize:
        return
    if ledger.training is not None or ledger.method is not None or ledger.base is not None:
        raise ValueError("it is a sum that is not divided, and something else as well")
    if ledger.deltas or ledger.on_missing is not OnMissing.REFUSE:
        raise ValueError("it is a sum that is not divided, of deltas or of missing tensors")
