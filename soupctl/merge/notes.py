"""Remarks on a soup for the user, each a sentence for stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.preference import library_of
from ..kinds.kind import Role
from ..ledger.ledger import Ledger
from .recipe import any_match
from .settings import dropped_settings
from .step import Rule, Step

if TYPE_CHECKING:
    from .aligned import Alignment
    from .plan import Plan

SHOWN = 3


def notes_on(
    plan: Plan, alignment: Alignment, checkpoints: Sequence[Checkpoint], globs: Sequence[str]
) -> Iterator[str]:
    """The notes on one component, of which the tensors that match `globs` are taken.

    `checkpoints` are those that it is a mean of, the first of the sources.
    """
    yield from chain.from_iterable(map(oddities, checkpoints))
    for source, renamed in zip(alignment.sources, alignment.renamed, strict=True):
        if renamed is not None:
            yield f"{source.label}: tensors are renamed to match the soup ({renamed})"
    if copies := sorted(alignment.copies):
        yield (
            f"some inputs lack copies of other tensors, which are filled in: {listed(copies)}"
            " (--exclude leaves them out)"
        )
    count, is_taken = len(checkpoints), any_match(globs)
    kept = plan.kept
    # most tensors have the same sources
    lacks_some = cache(lambda sources: sum(source < count for source in sources) < count)
    partial = [
        step.name
        for step in kept
        if step.rule is Rule.AVERAGE and lacks_some(step.sources) and not is_taken(step.name)
    ]
    if partial:
        yield f"averaged over the inputs that have them (--on-missing keep): {listed(partial)}"
    shared = len({id(source.tensors) for source in alignment.sources}) == 1
    if not shared and (padded := [step.name for step in kept if _is_padded(step, alignment)]):
        yield f"padded with zero input channels (--pad): {listed(padded)}"
    if shaped := [step.name for step in plan.kept if _has_own_shape(step, alignment, count)]:
        yield f"taken with another shape than the inputs have (--take): {listed(shaped)}"
    statistics = [
        step.name for step in kept if step.kind.role is Role.STATISTIC and step.rule is Rule.AVERAGE
    ]
    if statistics:
        yield (
            f"{len(statistics)} statistics of batch normalisation are averaged: recalibrate them"
            " with a pass over data before use"
        )
    if dropped := dropped_settings(checkpoints):
        yield f"metadata that differs between ingredients is left out: {listed(dropped)}"


def oddities(checkpoint: Checkpoint) -> Iterator[str]:
    """The notes on files of one checkpoint that do not fit each other."""
    label, component = checkpoint.label, checkpoint.component
    if component.passed_over:
        read = component.index_name or component.files[0].name
        yield (
            f"{label}: {read} is read, as {library_of(read)} does, and not"
            f" {listed(component.passed_over)}"
        )
    if checkpoint.repeated:
        yield f"{label}: the last shard that has a tensor counts for {listed(checkpoint.repeated)}"
    if absent := checkpoint.absent:
        yield f"{label}: no shard has tensors that the index lists: {listed(absent)}"


def mixed_weights(ledgers: Sequence[Ledger | None]) -> Iterator[str]:
    """A note if some of the trained ingredients are raw weights and others averages of training."""
    kinds = {
        each.training.weights for each in ledgers if each is not None and each.training is not None
    }
    if len(kinds) > 1:
        yield "raw weights of training runs are averaged with EMA weights: use one kind of them"


def _is_padded(step: Step, alignment: Alignment) -> bool:
    """Whether some source of an averaged tensor has fewer input channels than the soup."""
    if step.rule is not Rule.AVERAGE:
        return False
    shapes = {alignment.sources[source].tensors[step.name].shape for source in step.sources}
    return shapes != {step.shape}


def _has_own_shape(step: Step, alignment: Alignment, count: int) -> bool:
    """Whether a copied tensor has another shape than some of the `count` ingredients have."""
    if step.rule is Rule.AVERAGE:
        return False
    held = (source.tensors.get(step.name) for source in alignment.sources[:count])
    return any(each is not None and each.shape != step.shape for each in held)


def listed(names: Sequence[str]) -> str:
    """The first few of the names, and the number of the others."""
    rest = len(names) - SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:SHOWN]) + more
