"""A soup that is ready to be made: inputs open, plans made, places decided.

Rule 1: values only; every command that makes a soup builds a `Job`, and `run.py` carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import text_digest
from ..choices import Method
from ..format.header import Tensor, encode_header
from ..frozen import frozen
from ..ledger.ledger import LEDGER_KEY, UNKNOWN, Ledger
from ..ledger.ledger_json import ancestors_text, encode_ledger, require_readable
from .adapter_reader import AdapterReader
from .code_error import CodeError
from .destination import ComponentFiles, Destination
from .ingredients import ComponentInputs, Inputs
from .kept_sum.forms import SAMPLE
from .kept_sum.reader import Source, SumReader
from .kept_sum.record import SumRecord
from .kept_sum.survey import is_expected
from .new_ledger import agreed_metadata
from .order import Outcome
from .plan import Plan
from .scaled_codes import QUANTISED_LAYERS
from .shared_content import as_read, distinct
from .step import Step


@frozen
class ComponentResult:
    """One component of a finished soup."""

    name: str
    ledger: Ledger
    tensors: int
    read: int
    """Bytes of tensor data read."""
    written: int
    """Bytes of tensor data written."""
    method: Method
    error: CodeError | None = None
    """How far its quantised weights are off; None if none are quantised."""
    sum: Path | None = None
    """The path of its kept sum, or the folder that its sum is in."""


@frozen
class ComponentJob:
    """One component of a job, which has passed every check that headers allow.

    Raises LimitError for one whose ledger would be too long to be read.
    """

    inputs: ComponentInputs
    plan: Plan
    files: ComponentFiles
    draft: Ledger
    """The ledger before digests are known; it takes at least as many bytes as the complete one."""
    complete: Callable[[Sequence[Outcome]], Ledger]
    """The ledger once the digests of all components are known, which it is given in their order.

    Raises LedgerError if they are not the promised ones.
    """
    sources: Sequence[Source]
    """The sources in the order of the plan: those of the component, and kept sums."""
    sum_record: SumRecord | None = None
    """None if its sum is not kept."""
    summed: tuple[Plan, Sequence[Source]] | None = None
    """The plan and sources of its sum, where those of the soup have none: it is FINE."""
    require_sources: Callable[[], None] = lambda: None
    """Raises LedgerError if a source has not the promised content, which explains other errors."""
    method: Method = Method.INGREDIENTS
    notes: tuple[str, ...] = ()
    """Remarks for the user, a sentence each."""
    added: tuple[bool, ...] = ()
    """Which of the draft's ingredients are deltas and adapters; empty for none."""
    draft_text: str = field(init=False)
    """The draft as JSON."""
    metadata: Mapping[str, str] = field(init=False)
    """The metadata that all sources agree on."""
    headers: tuple[int, ...] = field(init=False)
    """Bytes that the header of each file takes."""
    _ancestors: str = field(init=False, repr=False, compare=False)
    """The ancestors of the draft as JSON, which the complete ledger has as well."""

    def __post_init__(self) -> None:
        """Encode the draft, and measure the headers, once."""
        ancestors = ancestors_text(self.draft.ancestors, text_digest)
        object.__setattr__(self, "_ancestors", ancestors)
        text = encode_ledger(self.draft, lambda _: UNKNOWN, ancestors=ancestors)
        require_readable(self.draft, text)
        object.__setattr__(self, "draft_text", text)
        # metadata of an adapter describes the adapter, not a model
        adapters = [each.checkpoint for each in self.sources if isinstance(each, AdapterReader)]
        models = [each for each in self.inputs.checkpoints if each not in adapters]
        agreed = agreed_metadata((*self.sums, *models))
        if self.plan.marker is not None or any(step.scales for step in self.plan.kept):
            # would say that tensors are quantised which no longer are, or in another way
            agreed.pop(QUANTISED_LAYERS, None)
        object.__setattr__(self, "metadata", agreed)
        drafted = self.file_metadata(text)
        sizes = (len(encode_header(file.tensors, drafted)) for file in self.files.files)
        object.__setattr__(self, "headers", tuple(sizes))

    @property
    def sum_plan(self) -> Plan:
        """The plan of its sum."""
        return self.plan if self.summed is None else self.summed[0]

    @property
    def sum_sources(self) -> Sequence[Source]:
        """The sources of its sum, in the order of that plan."""
        return self.sources if self.summed is None else self.summed[1]

    @property
    def sums(self) -> tuple[Checkpoint, ...]:
        """The kept sums that it is computed from."""
        return tuple(each.checkpoint for each in self.sources if isinstance(each, SumReader))

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read; some twice for a sum to keep, or to quantise.

        Of equal contents, one is read.
        """
        size = sum(each.data_size for each in distinct((*self.inputs.opened, *self.sums)))
        sources = as_read(self.sources)
        twice = sum(
            tensor.size
            for step in self.plan.steps
            if step.is_quantised
            for tensor in _read_for(step, sources)
        )
        if self.sum_record is None:
            return size + twice
        spared = sum(
            (tensor.count - SAMPLE) * tensor.dtype.bits // 8
            for step in self.plan.steps
            if is_expected(step, sources)
            for tensor in _read_for(step, sources)
        )
        return 2 * size - spared + twice

    @property
    def written(self) -> int:
        """Bytes of tensor data that will be written."""
        return sum(file.tensors[-1].stop for file in self.files.files if file.tensors)

    def text_of(self, ledger: Ledger) -> str:
        """The complete ledger as JSON."""
        ancestors = self._ancestors if ledger.ancestors == self.draft.ancestors else None
        return encode_ledger(ledger, text_digest, ancestors=ancestors)

    def file_metadata(self, ledger_text: str) -> dict[str, str]:
        """Metadata of the weights files; the ledger among it, unless an index carries that."""
        if self.files.index is not None:
            return {**self.metadata}
        return {**self.metadata, LEDGER_KEY: ledger_text}


def _read_for(step: Step, sources: Sequence[Source]) -> list[Tensor]:
    """The tensors that are read for a step; `sources` are those that `as_read` gives."""
    return [each.tensors[step.name] for each in {sources[place]: None for place in step.sources}]


@frozen
class Job:
    """A soup that is ready to be made, its inputs open."""

    weights: tuple[tuple[str, Fraction], ...]
    """The ingredients, as the user named them, with their weights."""
    inputs: Inputs
    destination: Destination
    components: tuple[ComponentJob, ...]
    added: frozenset[int] = frozenset()
    """Which of them are deltas and adapters, that are added to the mean of the others."""
    replaceable: frozenset[Path] = frozenset()
    """Input files that the output may replace: those of the soup that is updated in place."""

    @property
    def shares(self) -> tuple[tuple[str, Fraction, Fraction], ...]:
        """The ingredients with their weights, and their share in the mean or their scale."""
        counted = (w for place, (_, w) in enumerate(self.weights) if place not in self.added)
        total = sum(counted, Fraction(0)) if self.components[0].draft.normalize else Fraction(1)
        return tuple(
            (label, weight, weight / (1 if place in self.added else total))
            for place, (label, weight) in enumerate(self.weights)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user, a sentence each."""
        first = self.inputs.models[0]
        absent = (
            f"{first.label}: has no {name}, though its model_index.json lists it, nor has the soup"
            for name in first.absent
        )
        return tuple(
            dict.fromkeys([*absent, *chain.from_iterable(c.notes for c in self.components)])
        )

    @property
    def size(self) -> int:
        """Bytes of all weights files of the output."""
        return sum(each.written + sum(each.headers) for each in self.components)

    @property
    def keeps_sum(self) -> bool:
        """Whether a sum is kept of the soup."""
        return any(each.sum_record is not None for each in self.components)

    @property
    def open_files(self) -> int:
        """Files that are open at once while it is written, if so many may be, and their folders."""
        sums = 1 + len(self.components) if self.keeps_sum else 0
        return 1 + sum(len(each.files.files) for each in self.components) + sums

    @property
    def sums(self) -> tuple[Checkpoint, ...]:
        """The kept sums that it is computed from."""
        return tuple(sums for each in self.components for sums in each.sums)

    @property
    def used(self) -> Inputs:
        """All inputs, sums among them."""
        sums = ComponentInputs("", self.sums, (None,) * len(self.sums), None)
        return replace(self.inputs, components=(*self.inputs.components, sums))

    def require_unchanged(self) -> None:
        """Raise OutputError if a file that was read is another now, or was written to since."""
        self.require_models_unchanged()
        for checkpoint in self.sums:
            checkpoint.require_unchanged()

    def require_models_unchanged(self) -> None:
        """Raise OutputError likewise, but not for sums, which may have been replaced by then."""
        self.inputs.require_unchanged()
        self.destination.companions.require_unchanged()
