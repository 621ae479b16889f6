"""A change that is computed from the sum kept beside a soup, and from what changes alone.

Rule 1: the result is that of a recomputation from all ingredients, to the bit, without reading
those that stay.
Rule 2: where that cannot be, there is no way by the sum, and nothing is lost but time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice

from ...checkpoints.checkpoint import Checkpoint
from ...choices import OnInt
from ...errors import LedgerError, MismatchError
from ...format.dtypes import FLOATS, DType, narrowest
from ...ledger.changes import changes
from ...ledger.ledger import Change, IngredientEntry, Ledger, Runs
from ..membership import OpenedInputs
from ..plan import Plan, Rule, make_plan
from ..recipe import Recipe
from ..sources import Finder, Source, require_digests
from .find import AddedSum, Kept
from .format import REMOVE, SumUpdate, carried_over, spread
from .reader import SumReader


@dataclass(frozen=True, slots=True)
class Carried:
    """How a soup's sum becomes that of the changed soup."""

    before: Ledger
    kept: Kept
    step: SumUpdate
    sources: tuple[Source, ...]
    """The sum, all that changes, and the sums of soups that are put in."""
    runs: Mapping[str, Runs]
    """By content digest, the dtypes that ingredients had before of the soup's tensors."""

    @property
    def sums(self) -> tuple[Checkpoint, ...]:
        """The sums that are read."""
        sources = (source.checkpoint for source in self.sources)
        return tuple(each.checkpoint for each in sources if isinstance(each, SumReader))

    def plan(self, after: Sequence[IngredientEntry]) -> Plan:
        """The plan of the change, with the dtypes that a soup of `after` has.

        Raises LedgerError for a sum that records other tensors than it holds, MismatchError for
        what does not fit it.
        """
        recipe = recipe_of(
            self.before, [Fraction(1)] * len(self.sources), first=self.before.taken is not None
        )
        shown = [source.checkpoint.shown for source in self.sources]
        contents = [source.checkpoint.tensors for source in self.sources]
        try:
            plan = make_plan(recipe, shown, contents)
        except MismatchError:
            require_digests(self.sources)
            raise
        outs = self._outs(plan, after)
        steps = tuple(
            replace(step, out=outs[step.name]) if step.rule is Rule.AVERAGE else step
            for step in plan.steps
        )
        weights = (self.step.factor, *self.step.weights)
        return replace(plan, weights=weights, steps=steps, divisor=self.step.divisor)

    def _outs(self, plan: Plan, after: Sequence[IngredientEntry]) -> dict[str, DType]:
        """The dtype of each averaged tensor: the asked one, or what holds all that remains."""
        names = [step.name for step in plan.kept]
        if self.before.asked_dtype is not None:
            return dict.fromkeys(names, self.before.asked_dtype)
        columns = [self._dtypes(plan, entry.digest) for entry in after]
        rows = zip(plan.kept, zip(*columns, strict=True), strict=True)
        return {
            step.name: narrowest(frozenset(dtypes))
            for step, dtypes in rows
            if step.rule is Rule.AVERAGE
        }

    def _dtypes(self, plan: Plan, digest: str) -> list[DType]:
        """The dtypes that an ingredient has of the plan's tensors."""
        if digest not in self.runs:
            digests = [source.digest for source in self.sources]
            source = digests.index(digest)
            return [step.dtypes[step.sources.index(source)] for step in plan.kept]
        # what a sum records may be long without end
        found = list(islice(spread(self.runs[digest]), len(plan.kept) + 1))
        averaged = [
            dtype
            for dtype, step in zip(found, plan.kept, strict=False)
            if step.rule is Rule.AVERAGE
        ]
        if len(found) != len(plan.kept) or any(dtype not in FLOATS for dtype in averaged):
            what = "records other tensors of an ingredient than it is the sum of"
            raise LedgerError(what, path=self.kept.shown, advice=REMOVE)
        return found


def carry_over(
    finder: Finder, gathering: OpenedInputs, before: Ledger, after: Sequence[IngredientEntry]
) -> Carried | None:
    """The way by a soup's sum; None if there is none, or what changes is not found."""
    kept = gathering.kept
    if kept is None or (before.taken and before.taken.digest not in {e.digest for e in after}):
        return None
    shares = [share for share in gathering.shares if _adds_up(kept, share)]
    changed = _without(changes(before.ingredients, after), shares)
    total = sum((entry.weight for entry in after), Fraction(0))
    factors = [share.factor / share.kept.scale for share in shares]
    step = carried_over(kept.scale, [*changed.values(), *factors], total)
    if step is None:
        return None
    entries = {entry.digest: entry for entry in (*before.ingredients, *after)}
    runs = _runs(before, kept)
    sources = [Source(kept.facts.root, kept.sums, Fraction(step.factor))]
    for digest, weight in changed.items():
        checkpoint = finder.find(entries[digest])
        if checkpoint is None:
            return None
        sources.append(Source(digest, checkpoint, weight))
    for share, factor in zip(shares, factors, strict=True):
        sources.append(Source(share.kept.facts.root, share.kept.sums, factor))
        runs |= _runs(share.ledger, share.kept)
    return Carried(before, kept, step, tuple(sources), runs)


def _adds_up(kept: Kept, share: AddedSum) -> bool:
    """Whether one sum can be added to the other: of the same tensors, and of no doubtful integers.

    Otherwise the other soup's ingredients are put in one by one.
    """
    return share.ledger.taken is None and share.kept.sums.tensors.keys() == kept.sums.tensors.keys()


def _without(changed: Sequence[Change], shares: Sequence[AddedSum]) -> dict[str, Fraction]:
    """By content digest, the weights that change beside what the shares bring."""
    weights = {change.digest: change.weight for change in changed}
    for share in shares:
        for entry in share.ledger.ingredients:
            weight = weights.get(entry.digest, Fraction(0)) - entry.weight * share.factor
            weights[entry.digest] = weight
    return {digest: weight for digest, weight in sorted(weights.items()) if weight}


def _runs(ledger: Ledger, kept: Kept) -> dict[str, Runs]:
    """By content digest, the dtypes that a sum records of its ingredients."""
    digests = [entry.digest for entry in ledger.ingredients]
    return dict(zip(digests, kept.facts.dtypes, strict=True))


def recipe_of(ledger: Ledger, weights: Sequence[Fraction], *, first: bool) -> Recipe:
    """The recipe of a soup with other weights; with `first`, whose integers it has is settled."""
    return Recipe(
        weights=tuple(weights),
        dtype=ledger.asked_dtype,
        keys=ledger.keys,
        excludes=ledger.excludes,
        on_int=OnInt.FIRST if first else OnInt.REFUSE,
        allow_nonfinite=ledger.allow_nonfinite,
    )


def checkpoints_of(sources: Sequence[Source]) -> tuple[Checkpoint, ...]:
    """What is computed with, but for a sum."""
    return tuple(
        source.checkpoint for source in sources if not isinstance(source.checkpoint, SumReader)
    )
