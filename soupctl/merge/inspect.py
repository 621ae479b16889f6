"""Describes a checkpoint from its headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

from ..checkpoints.architecture import guess_architecture
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.open import find_input, open_input
from ..errors import LedgerError
from ..format.header import Tensor
from ..frozen import frozen
from ..kinds.classify import Kinds, classify
from ..ledger.ledger import DELTA_KEY, LEDGER_KEY, SUM_KEY, Ledger
from ..ledger.read import is_delta, is_sum, read_ledger
from ..lora.summary import AdapterSummary, summary_of
from .blocks.table import BlockRow, block_rows
from .facts import facts_of_source
from .notes import oddities


@frozen
class Inspection:
    """One checkpoint: a file, or a component of a folder."""

    path: str
    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    files: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    """In the order of their names."""
    kinds: Kinds
    """Kinds of tensors that are not plain weights, by name."""
    metadata: Mapping[str, str]
    """The metadata without the ledger."""
    is_sum: bool
    """Whether it is a kept sum, whose ledger is that of its soup."""
    is_delta: bool
    """Whether it is a fine-tuned checkpoint minus its base."""
    adapter: AdapterSummary | None
    """A summary of its updates, if it is an adapter."""
    architecture: str | None
    """A guess from names and shapes."""
    ledger: Ledger | None
    """The ledger, if it is a soup; not verified against the data."""
    ledger_problem: str | None
    """Why its ledger cannot be read, if it has one that cannot."""
    blocks: tuple[BlockRow, ...] = ()
    """The weights of a soup's ingredients by block; none if they are the same everywhere."""
    notes: tuple[str, ...] = ()
    """Remarks on files that do not fit each other, as in a folder with two sets of weights."""

    @property
    def kind(self) -> str:
        """The kind of file: `checkpoint`, `sum` or `delta`."""
        return "sum" if self.is_sum else "delta" if self.is_delta else "checkpoint"

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def counted_kinds(self) -> dict[str, int]:
        """The number of tensors of each kind, without plain weights."""
        return dict(sorted(Counter(kind.text for kind in self.kinds.values()).items()))

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def dtypes(self) -> dict[str, int]:
        """The number of tensors of each dtype."""
        return dict(sorted(Counter(tensor.dtype.value for tensor in self.tensors).items()))


def inspect(
    path: str | Path, *, component: str | None = None, variant: str | None = None
) -> tuple[Inspection, ...]:
    """One inspection for each component at `path`.

    Raises InputError for an unreadable or unsound file, MismatchError for a missing component.
    """
    model = find_input(path, component, variant)
    found = []
    for each in model.components:
        with open_input(each) as checkpoint:
            found.append(_inspect(each.name, checkpoint))
    return tuple(found)


def _inspect(name: str, checkpoint: Checkpoint) -> Inspection:
    ledger, problem = None, None
    try:
        ledger = read_ledger(checkpoint)
    except LedgerError as error:
        problem = error.issues[0].what
    metadata = checkpoint.metadata
    return Inspection(
        path=checkpoint.label,
        name=name,
        files=tuple(str(file) for file in checkpoint.component.files),
        tensors=tuple(tensor for _, tensor in sorted(checkpoint.tensors.items())),
        kinds={}
        if is_sum(checkpoint) or is_delta(checkpoint)
        else classify(checkpoint.tensors, facts_of_source(checkpoint)),
        metadata={
            key: text
            for key, text in sorted(metadata.items())
            if key not in (LEDGER_KEY, SUM_KEY, DELTA_KEY)
        },
        is_sum=is_sum(checkpoint),
        is_delta=is_delta(checkpoint),
        adapter=summary_of(
            checkpoint.tensors,
            checkpoint.metadata,
            facts_of_source(checkpoint),
            checkpoint.label,
        ),
        architecture=guess_architecture(checkpoint.tensors),
        ledger=ledger,
        ledger_problem=problem,
        blocks=() if ledger is None or is_sum(checkpoint) else _rows(ledger, checkpoint),
        notes=tuple(oddities(checkpoint)),
    )


def _rows(ledger: Ledger, checkpoint: Checkpoint) -> tuple[BlockRow, ...]:
    weights = [entry.weights for entry in ledger.ingredients]
    added = [ledger.adds(entry) for entry in ledger.ingredients]
    names = checkpoint.tensors.keys()
    rows = block_rows(ledger.blocks, weights, names, added, normalize=ledger.normalize)
    # a forged ledger may leave a block without weight
    return tuple(row for row in rows if row.total)
