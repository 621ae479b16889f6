"""The record of a new sum, besides its ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ...checkpoints.digest import text_digest
from ...format.dtypes import DType
from ...frozen import frozen
from ...ledger.ledger import Ledger, Runs, runs
from ..order import Outcome
from ..plan import Plan
from .format import Facts, encode_facts


@frozen
class SumRecord:
    """The record of a sum that is to be written."""

    draft: Facts
    """The record before digests are known; it takes at least as many bytes as the complete one."""
    dtypes: Callable[[Ledger, Outcome], tuple[Runs, ...]]
    """For each ingredient in the ledger's order, its dtypes of the soup's tensors."""

    def draft_text(self, ledger_text: str) -> str:
        """The draft as JSON, bound to the text of a draft of the ledger."""
        return encode_facts(self.draft, ledger_text, text_digest)

    def text(self, ledger: Ledger, ledger_text: str, outcome: Outcome) -> str:
        """The complete record as JSON, bound to the text of the ledger."""
        assert outcome.sum is not None
        facts = replace(self.draft, root=outcome.sum, dtypes=self.dtypes(ledger, outcome))
        return encode_facts(facts, ledger_text, text_digest)


def kept_runs(plan: Plan, source: int) -> Runs:
    """The dtypes of the soup's tensors in one of a plan's sources, by name."""
    return runs(dtypes_of(plan, source))


def dtypes_of(plan: Plan, source: int) -> Iterator[DType]:
    """The dtype of each of the soup's tensors in a source; the soup's if the source lacks it."""
    for step in plan.kept:
        # usually all ingredients have every tensor, each in its own order
        if source < len(step.sources) and step.sources[source] == source:
            yield step.dtypes[source]
        else:
            held = dict(zip(step.sources, step.dtypes, strict=True))
            yield held.get(source, step.out or step.dtypes[0])


def ordered_runs(by_digest: Mapping[str, Runs], ledger: Ledger) -> tuple[Runs, ...]:
    """The dtypes of each ingredient in the order of the ledger."""
    return tuple(by_digest[entry.digest] for entry in ledger.ingredients)
