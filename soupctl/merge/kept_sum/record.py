"""The record of a new sum, besides its ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from ...checkpoints.digest import text_digest
from ...format.dtypes import DType
from ...frozen import frozen
from ...ledger.ledger import UNKNOWN, Ledger, Runs, runs
from ..adapter_reader import AdapterReader
from ..delta.reader import DeltaReader
from ..order import Outcome
from ..plan import Plan
from ..step import Rule, Step
from .format import UNDECIDED, Facts, encode_facts
from .reader import Source


@frozen
class SummedSource:
    """An ingredient in the record of a sum, without its weight."""

    dtypes: Runs
    """Its dtypes of the soup's tensors, by name."""
    denominator: int = 1
    """The common denominator of the scales of its updates."""


@frozen
class SumRecord:
    """The record of a sum that is to be written."""

    draft: Facts
    """The record before digests are known; it takes at least as many bytes as the complete one."""
    ordered: Callable[[Ledger, Outcome], Sequence[SummedSource]]
    """The ingredients in the ledger's order."""

    def draft_text(self, ledger_text: str) -> str:
        """The draft as JSON, bound to the text of a draft of the ledger."""
        return encode_facts(self.draft, ledger_text, text_digest)

    def text(self, ledger: Ledger, ledger_text: str, outcome: Outcome) -> str:
        """The complete record as JSON, bound to the text of the ledger."""
        assert outcome.sum is not None
        facts = facts_on(self.draft.scale, self.ordered(ledger, outcome))
        return encode_facts(replace(facts, root=outcome.sum), ledger_text, text_digest)


def facts_on(scale: Fraction, sources: Sequence[SummedSource]) -> Facts:
    """The facts of a sum of this scale, in the order of its sources, without its digest."""
    denominators = tuple(each.denominator for each in sources)
    some = denominators if any(each > 1 for each in denominators) else ()
    return Facts(scale, UNKNOWN, tuple(each.dtypes for each in sources), some)


def record_of_sources(scale: Fraction, sources: Sequence[SummedSource]) -> SumRecord:
    """The record of a sum of these ingredients, whose digests the pass finds."""

    def ordered(ledger: Ledger, outcome: Outcome) -> tuple[SummedSource, ...]:
        digests = outcome.ingredients[: len(sources)]
        return in_order(dict(zip(digests, sources, strict=True)), ledger)

    return SumRecord(facts_on(scale, sources), ordered)


def summed_source(plan: Plan, place: int, source: Source) -> SummedSource:
    """One of a plan's sources, as the record of a sum describes it."""
    if isinstance(source, AdapterReader):
        return SummedSource(runs(UNDECIDED for _ in plan.kept), source.denominator)
    if isinstance(source, DeltaReader):
        return SummedSource(runs(_decides(step, place) for step in plan.kept))
    return SummedSource(runs(dtypes_of(plan, place)))


def _decides(step: Step, delta: int) -> DType:
    """The dtype with which a delta decides that of the soup's tensor."""
    if step.rule is not Rule.AVERAGE or delta not in step.sources:
        return UNDECIDED
    return step.dtypes[step.sources.index(delta)]


def dtypes_of(plan: Plan, source: int) -> Iterator[DType]:
    """The dtype of each of the soup's tensors in a source; the soup's if the source lacks it."""
    for step in plan.kept:
        # usually all ingredients have every tensor, each in its own order
        if source < len(step.sources) and step.sources[source] == source:
            yield step.dtypes[source]
        else:
            held = dict(zip(step.sources, step.dtypes, strict=True))
            yield held.get(source, step.out or step.dtypes[0])


def in_order(by_digest: Mapping[str, SummedSource], ledger: Ledger) -> tuple[SummedSource, ...]:
    """The recorded ingredients in the order of the ledger."""
    return tuple(by_digest[entry.digest] for entry in ledger.ingredients)
