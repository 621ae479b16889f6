"""Which ingredients of a soup hold a tensor, where not all do, and its weights in a changed sum.

Rule 1: the sum of a tensor that one ingredient alone holds is the tensor itself, whatever the
weight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from ...frozen import frozen
from ...kinds.kind import WEIGHT
from ...ledger.block_weights import WeightByBlock
from ...ledger.ledger import IngredientEntry, Ledger
from ..plan import Plan
from ..recipe import any_match, first_match
from ..step import Rule, Step
from ..step_weights import ALONE, NO_WEIGHTS, StepWeights
from .format import SumUpdate
from .reader import Source, SumReader


@frozen
class Holders:
    """The ingredients before and after a change, and which tensors each of them holds."""

    before: Mapping[str, WeightByBlock]
    """The weights of the ingredients by content digest."""
    after: Mapping[str, WeightByBlock]
    read: Mapping[str, Source]
    """The sources, by digest, of the ingredients that are read."""
    lacks: Mapping[str, frozenset[str]]
    """The tensors that each ingredient of the soup lacks, by its ledger."""
    in_sum: frozenset[str]
    """The tensors that the sum holds."""

    def is_plain(self, tensors: Collection[str]) -> bool:
        """Whether every ingredient, before and after, holds all of these tensors."""
        every = frozenset(tensors)
        return (
            all(every.isdisjoint(each) for each in self.lacks.values())
            and every <= self.in_sum
            and all(every <= each.tensors.keys() for each in self.read.values())
        )

    def holds(self, digest: str, tensor: str) -> bool:
        """Whether an ingredient holds a tensor."""
        if digest in self.read:
            return tensor in self.read[digest].tensors
        return tensor in self.in_sum and tensor not in self.lacks.get(digest, ())

    def among(self, ingredients: Iterable[str], tensor: str) -> list[str]:
        """The ingredients, among these, that hold a tensor."""
        return [digest for digest in ingredients if self.holds(digest, tensor)]

    def lacking(self, digest: str, tensors: Iterable[str]) -> tuple[str, ...]:
        """The tensors, among these, that an ingredient lacks."""
        return tuple(tensor for tensor in tensors if not self.holds(digest, tensor))


def holders_of(
    before: Sequence[IngredientEntry],
    after: Sequence[IngredientEntry],
    read: Mapping[str, Source],
    kept: SumReader,
) -> Holders:
    """The holders of the tensors of a sum and of the sources that are read beside it."""
    return Holders(
        {entry.digest: entry.weights for entry in before},
        {entry.digest: entry.weights for entry in after},
        read,
        {entry.digest: frozenset(entry.lacks) for entry in before},
        frozenset(kept.tensors),
    )


def taken_by(ledger: Ledger) -> Callable[[str], bool]:
    """A function that tells from its name whether a tensor of a soup is taken from one file."""
    return any_match(tuple(glob for glob, _ in ledger.takes))


class ChangedWeights:
    """The whole weights of the sources of a changed sum, in each tensor."""

    def __init__(
        self,
        update: SumUpdate,
        shrink: int,
        holders: Holders,
        globs: Sequence[str],
        divisor: int | None = None,
    ) -> None:
        """`globs` are the blocks that weights differ by; without a divisor it is their total."""
        self._update, self._shrink, self.holders = update, shrink, holders
        self._count, self._divisor = len(globs), divisor
        self._block_of = first_match([(glob, place) for place, glob in enumerate(globs)])
        self._in_block = cache(self._of_all)

    def of(self, tensor: str) -> StepWeights | None:
        """The weights where all ingredients hold a tensor; None if their total is not positive."""
        return self._in_block(self._block_of(tensor))

    @property
    def usual(self) -> StepWeights | None:
        """The weights in tensors of no block; None if their total is not positive."""
        return self._in_block(None)

    def of_holders(self, step: Step) -> StepWeights | None:
        """The weights of a step's sources, of which only some ingredients hold the tensor."""
        block = self._block_of(step.name)
        after = self.holders.among(self.holders.after, step.name)
        total = sum(self._whole(self.holders.after[digest], block) for digest in after)
        if total <= 0:
            return None
        weights = [self._update.factor, *(self._at(each, block) for each in self._update.weights)]
        before = self.holders.among(self.holders.before, step.name)
        if len(before) == 1:
            weights[0] = self._whole(self.holders.before[before[0]], block)
        own = tuple(weights[source] for source in step.sources)
        return StepWeights(own, total, total if len(after) == 1 else self._shrink)

    def _of_all(self, block: int | None) -> StepWeights | None:
        total = self._divisor or sum(self._whole(x, block) for x in self.holders.after.values())
        if total <= 0:
            return None
        changed = (self._at(each, block) for each in self._update.weights)
        return StepWeights((self._update.factor, *changed), total, self._shrink)

    def _whole(self, asked: WeightByBlock, block: int | None) -> int:
        return self._at(asked * self._update.scale, block)

    def _at(self, weights: WeightByBlock, block: int | None) -> int:
        return int(weights.usual if block is None else weights.spread(self._count)[block])


def weighted_plan(
    plan: Plan, weights: ChangedWeights, is_taken: Callable[[str], bool]
) -> Plan | None:
    """The plan with the weights of an update; None if some tensor would have no positive total.

    A tensor that is taken from one file keeps its value, and one that no ingredient holds any more
    is left out.
    """
    is_plain = weights.holders.is_plain([x.name for x in plan.kept if not is_taken(x.name)])
    steps = []
    for step in plan.steps:
        found: Step | None = step
        if step.out is not None and is_taken(step.name):
            found = replace(step, weights=ALONE)
        elif step.out is not None:
            found = _weighted(step, weights, is_plain=is_plain)
        if found is None:
            return None
        steps.append(found)
    usual = weights.usual
    return None if usual is None else replace(plan, weights=usual, steps=tuple(steps))


def _weighted(step: Step, weights: ChangedWeights, *, is_plain: bool) -> Step | None:
    holders = weights.holders
    if not is_plain and not holders.among(holders.after, step.name):
        return replace(step, rule=Rule.LEFT_OUT, out=None, weights=NO_WEIGHTS, kind=WEIGHT)
    if step.rule is not Rule.AVERAGE:
        return step
    found = weights.of(step.name) if is_plain else weights.of_holders(step)
    return None if found is None else replace(step, weights=found)
