"""Which ingredients of a soup hold a tensor, where not all do, and its weights in a changed sum.

Rule 1: the sum of a tensor that one ingredient alone holds is the tensor itself, whatever the
weight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ...kinds.kind import WEIGHT
from ...ledger.ledger import IngredientEntry, Ledger
from ..plan import Plan
from ..recipe import any_match
from ..step import Rule, Step
from ..step_weights import ALONE, NO_WEIGHTS, StepWeights
from .format import SumUpdate
from .reader import Source, SumReader


@dataclass(frozen=True, slots=True)
class Holders:
    """The ingredients before and after a change, and which tensors each of them holds."""

    before: Mapping[str, Fraction]
    """The weights of the ingredients by content digest."""
    after: Mapping[str, Fraction]
    read: Mapping[str, Source]
    """The sources, by digest, of the ingredients that are read."""
    lacks: Mapping[str, frozenset[str]]
    """What the ledger says that each ingredient of the soup lacks."""
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
        """Those of the ingredients that hold a tensor."""
        return [digest for digest in ingredients if self.holds(digest, tensor)]

    def lacking(self, digest: str, tensors: Iterable[str]) -> tuple[str, ...]:
        """Those of the tensors that an ingredient lacks."""
        return tuple(tensor for tensor in tensors if not self.holds(digest, tensor))


def holders_of(
    before: Sequence[IngredientEntry],
    after: Sequence[IngredientEntry],
    read: Mapping[str, Source],
    kept: SumReader,
) -> Holders:
    """The holders of the tensors of a sum and of the sources that are read beside it."""
    return Holders(
        {entry.digest: entry.weight for entry in before},
        {entry.digest: entry.weight for entry in after},
        read,
        {entry.digest: frozenset(entry.lacks) for entry in before},
        frozenset(kept.tensors),
    )


def taken_by(ledger: Ledger) -> Callable[[str], bool]:
    """A function that tells from its name whether a tensor of a soup is taken from one file."""
    return any_match(tuple(glob for glob, _ in ledger.takes))


def weighted_plan(
    plan: Plan,
    update: SumUpdate,
    shrink: int,
    holders: Holders,
    is_taken: Callable[[str], bool],
) -> Plan | None:
    """The plan with the weights of an update; None if some tensor would have no positive total.

    A tensor that is taken from one file keeps its value, and one that no ingredient holds any more
    is left out.
    """
    whole = (update.factor, *update.weights)
    plan = plan.reweighted(StepWeights(whole, update.divisor, shrink))
    is_plain = holders.is_plain([step.name for step in plan.kept if not is_taken(step.name)])
    steps = []
    for step in plan.steps:
        found: Step | None = step
        if step.out is not None and is_taken(step.name):
            found = replace(step, weights=ALONE)
        elif step.out is not None and not is_plain:
            found = _weighted(step, whole, update, shrink, holders)
        if found is None:
            return None
        steps.append(found)
    return replace(plan, steps=tuple(steps))


def _weighted(
    step: Step, whole: Sequence[int], update: SumUpdate, shrink: int, holders: Holders
) -> Step | None:
    after = holders.among(holders.after, step.name)
    if not after:
        return replace(step, rule=Rule.LEFT_OUT, out=None, weights=NO_WEIGHTS, kind=WEIGHT)
    if step.rule is not Rule.AVERAGE:
        return step
    total = sum((holders.after[digest] for digest in after), Fraction(0)) * update.scale
    if total <= 0:
        return None
    weights = list(whole)
    before = holders.among(holders.before, step.name)
    if len(before) == 1:
        weights[0] = int(holders.before[before[0]] * update.scale)
    own = tuple(weights[source] for source in step.sources)
    divisor = int(total)
    return replace(step, weights=StepWeights(own, divisor, divisor if len(after) == 1 else shrink))
