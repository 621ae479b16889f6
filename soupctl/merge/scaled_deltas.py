"""Models with weights, and deltas with scales, as commands and recipes request them.

Rule 1: deltas of equal content are one delta, with the sum of their scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..checkpoints.hashing import checkpoint_digest
from ..errors import LedgerError, UsageError
from ..frozen import frozen
from ..ledger.block_weights import WeightByBlock
from .applied_plan import Delta
from .given_deltas import GivenDelta
from .recipe import Recipe


@frozen
class ScaledDelta:
    """A delta or adapter of one component, with its scale by block."""

    delta: Delta
    scale: WeightByBlock
    given: tuple[int, ...]
    """Indices of the given deltas that have this content."""


@frozen
class ModelsWithDeltas:
    """Models with their weights, and deltas: everything that decides the bytes, and the output."""

    models: Sequence[WeightByBlock]
    """The weights of the models in the order of the inputs; of a base alone it is 1."""
    deltas: Sequence[GivenDelta]
    scales: Sequence[WeightByBlock]
    """The scales of the deltas, in their order."""
    blocks: tuple[str, ...]
    """The globs of blocks that weights and scales differ by."""
    recipe: Recipe
    """The other options; its weights are not used."""
    output: str | Path
    other_base: bool = False
    variant: str | None = None
    shard_size: int | None = None
    keep_sum: bool = False
    """Whether the exact sum is kept beside the soup."""


def summed_deltas(mixture: ModelsWithDeltas, position: int) -> tuple[ScaledDelta, ...]:
    """The deltas of one component, those of equal content as one; UsageError if they cancel."""
    found: dict[str, ScaledDelta] = {}
    for number, (given, scale) in enumerate(zip(mixture.deltas, mixture.scales, strict=True)):
        delta = given.deltas[position]
        if delta is None:
            continue
        each = ScaledDelta(delta, scale, (number,))
        known = delta.ledger
        root = checkpoint_digest(delta.checkpoint) if known is None else known.root
        if root in found:
            if checkpoint_digest(delta.checkpoint) != root:
                # only the first of several deltas with equal content is read
                raise LedgerError("its ledger does not match its tensors", path=delta.label)
            first = found[root]
            given_by = (*first.given, number)
            found[root] = replace(first, scale=first.scale + scale, given=given_by)
        else:
            found[root] = each
    for each in found.values():
        if not each.scale:
            what = "is given more than once, with scales that cancel, or with a scale of zero"
            advice = "leave it out"
            if len(each.given) > 1 and len(mixture.deltas[each.given[0]].deltas) > 1:
                advice = "leave this component out of the folders of deltas"
            raise UsageError(what, path=each.delta.label, advice=advice)
    return tuple(found.values())


def places_of(mixture: ModelsWithDeltas, position: int) -> dict[int, int]:
    """The index, among a component's sources, of each delta that changes the component."""
    numbered = enumerate(summed_deltas(mixture, position), len(mixture.models))
    return {number: place for place, each in numbered for number in each.given}
