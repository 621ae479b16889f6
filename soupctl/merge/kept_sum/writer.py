"""A component that is computed in exact sums: its sum surveyed, written and recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ...checkpoints.digest import text_digest
from ...engines.contract import Engine
from ...format.header import encode_header, lay_out
from ...ledger.ledger import LEDGER_KEY, SUM_KEY, Ledger, Runs, runs
from ...ledger.ledger_json import encode_ledger
from ...storage.files import write_at
from ...workers import ExecutionOptions
from ..executor import Outcome, Write
from ..plan import Plan, Rule
from ..summing import Keeping, Summed, execute_sums, survey
from .format import Facts, SumForm, TensorSpec, copied_entry, encode_facts, plane_entries
from .publish import SumFile
from .reader import Source


@dataclass(frozen=True, slots=True)
class SumRecord:
    """What the new sum of a component says of itself beside its ledger."""

    draft: Facts
    """As far as it is known; it takes no fewer bytes than the complete one."""
    dtypes: Callable[[Ledger, Outcome], tuple[Runs, ...]]
    """The dtypes of each ingredient's tensors that are in the soup, in the ledger's order."""

    def metadata(
        self, agreed: Mapping[str, str], ledger: Ledger, found: Summed | None
    ) -> dict[str, str]:
        """Metadata of the sum's file; None for a draft of it."""
        facts = self.draft
        if found is not None:
            assert found.kept is not None
            facts = replace(facts, root=found.kept, dtypes=self.dtypes(ledger, found.outcome))
        text = encode_ledger(ledger, text_digest)
        return {**agreed, LEDGER_KEY: text, SUM_KEY: encode_facts(facts, text, text_digest)}


@dataclass(frozen=True, slots=True)
class Summing:
    """How a component is computed in exact sums."""

    sources: tuple[Source, ...]
    """What is added up, in the order of the plan."""
    record: SumRecord | None
    """None if no sum is written."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A component of which it is known how its sum will be kept."""

    forms: Mapping[str, SumForm]
    file: SumFile

    def make(
        self,
        plan: Plan,
        summing: Summing,
        engine: Engine,
        write: Write,
        fd: int,
        execution: ExecutionOptions,
    ) -> Summed:
        """Compute the component with `write`, and its sum into the file `fd`."""
        places = {tensor.name: self.file.header + tensor.start for tensor in self.file.tensors}

        def keep(name: str, offset: int, data: memoryview) -> None:
            write_at(fd, data, places[name] + offset)

        return execute_sums(
            plan, summing.sources, engine, write, execution, Keeping(self.forms, keep)
        )

    def describe(self, fd: int, metadata: Mapping[str, str]) -> None:
        """Write the header of the sum's file."""
        write_at(fd, encode_header(self.file.tensors, metadata, self.file.header), 0)


def survey_sum(
    name: str,
    plan: Plan,
    summing: Summing,
    draft: Mapping[str, str],
    engine: Engine,
    execution: ExecutionOptions,
) -> Surveyed:
    """The form of a component's sum; `draft` takes no fewer bytes than the file's metadata will.

    Raises what `survey` does.
    """
    forms = survey(plan, summing.sources, engine, execution)
    entries: list[TensorSpec] = []
    for step in plan.kept:
        if step.rule is Rule.AVERAGE:
            entries += plane_entries(step.name, step.shape, forms[step.name])
        elif step.out is not None:
            entries.append(copied_entry(step.name, step.out, step.shape))
    tensors = lay_out(entries)
    return Surveyed(forms, SumFile(name, tensors, len(encode_header(tensors, draft))))


def kept_runs(plan: Plan, source: int) -> Runs:
    """The dtypes that one of a plan's sources has of the soup's tensors, by name."""
    return runs(step.dtypes[step.sources.index(source)] for step in plan.kept)


def ordered_runs(by_digest: Mapping[str, Runs], ledger: Ledger) -> tuple[Runs, ...]:
    """The dtypes of each ingredient in the order of the ledger."""
    return tuple(by_digest[entry.digest] for entry in ledger.ingredients)
