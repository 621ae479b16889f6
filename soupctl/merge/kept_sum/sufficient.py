"""Whether a kept sum and its ledger say enough for a change."""

from __future__ import annotations

from ...choices import OnMissing
from ...kinds.classify import classify
from ...kinds.copies import originals
from ...kinds.facts import NO_FACTS
from ...kinds.kind import AVERAGED
from ..aligned import Alignment
from ..membership import Membership
from ..plan import Plan
from ..recipe import any_match
from ..step import Rule
from .format import COPIED
from .holders import Holders, taken_by
from .reader import SumReader


def goes(members: Membership) -> bool:
    """Whether an ingredient goes that the soup's tensors follow."""
    before = members.before
    gone = {entry.digest for entry in before.ingredients}
    gone -= {entry.digest for entry in members.after}
    followed = {digest for _, digest in before.takes}
    if before.integer_source is not None:
        followed.add(before.integer_source.digest)
    # without an ingredient, others may have a tensor in common that was dropped
    return bool(gone & followed or (gone and before.on_missing is OnMissing.DROP))


def has_names(members: Membership, renamed: dict[str, str | None]) -> bool:
    """Whether the soup keeps its names, and ingredients that are read have the recorded ones."""
    held = {entry.digest: entry.renamed for entry in members.before.ingredients}
    every = {entry.digest: entry.renamed for entry in members.after} | held | renamed
    as_recorded = all(renamed.get(digest, what) == what for digest, what in held.items())
    return as_recorded and any(every[entry.digest] is None for entry in members.after)


def is_recorded(members: Membership, alignment: Alignment, holders: Holders) -> bool:
    """Whether the sum and its ledger say enough of the ingredients that are not read.

    They do not say whose tensors are copies or rounded constants of others, and which are as wide
    as those of the soup.
    """
    kept, *others = alignment.sources
    is_taken = taken_by(members.before)
    lacked = {n for each in holders.lacks.values() for n in each if not is_taken(n)}
    if alignment.copies or not lacked.isdisjoint(originals(kept.tensors)):
        return False
    kinds = classify(kept.tensors, NO_FACTS)
    gone = [source for digest, source in holders.read.items() if digest not in holders.after]
    if gone and any(kinds[name].role not in AVERAGED for name in lacked & kinds.keys()):
        return False
    is_padded = any_match(members.before.pads)
    return not any(
        is_padded(name)
        and len(tensor.shape) > 1
        and name in kept.tensors
        and (
            tensor.shape > kept.tensors[name].shape
            or (source in gone and tensor.shape == kept.tensors[name].shape)
        )
        for source in others
        for name, tensor in source.tensors.items()
    )


def are_stored(reader: SumReader, plan: Plan) -> bool:
    """Whether the sum holds copies of tensors that the plan copies, and sums of those it averages.

    An older soupctl averaged constants.
    """
    return all(
        is_copied(reader, step.name) == (step.rule is not Rule.AVERAGE)
        for step in plan.kept
        if step.name in reader.planes
    )


def is_copied(reader: SumReader, tensor: str) -> bool:
    """Whether the sum holds a tensor itself, not a sum of it."""
    return reader.planes[tensor][0].name == COPIED + tensor
