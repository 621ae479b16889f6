"""Read kept sums, and the terms that any source adds to the sum of a tensor.

Rule 1: a kept sum stands for itself times one whole number; its planes share that weight.
Rule 2: sparse planes are expanded chunk by chunk, never whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...checkpoints.checkpoint import Checkpoint
from ...engines.planes import SparseArray
from ...errors import LedgerError
from ...format.dtypes import Kind
from ...format.header import Tensor
from .format import REMOVE, planes_by_tensor


class SumReader:
    """A sum open for reading: the tensors that hold the sum of each tensor of the soup, by name."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raise LedgerError for a checkpoint that is no sum."""
        self.checkpoint = checkpoint
        try:
            self.parts = planes_by_tensor(checkpoint.tensors.values())
        except ValueError as error:
            raise invalid_sum(self.label, str(error)) from None
        self.tensors: Mapping[str, Tensor] = {
            name: Tensor(name, parts[0].dtype, parts[0].shape, 0, parts[0].size)
            for name, parts in self.parts.items()
        }

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.checkpoint.label


Source = Checkpoint | SumReader
"""How a soup is computed."""

StoredTensor = tuple[Tensor, memoryview]
"""A tensor of a file, and its bytes."""


@dataclass(frozen=True, slots=True)
class SparsePlane:
    """A sparse plane: its nonzero elements, stored as an index tensor and a value tensor."""

    plane: SparseArray
    stored: tuple[StoredTensor, StoredTensor]


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one source in the sum of a tensor: dense tensors and sparse planes."""

    dense: tuple[StoredTensor, ...]
    sparse: tuple[SparsePlane, ...] = ()


def recorded_digest(source: Source) -> str | None:
    """The content digest of a source that was digested since it was opened."""
    return source.checkpoint.digest if isinstance(source, SumReader) else source.digest


def copied_tensor(source: Source, name: str) -> StoredTensor:
    """The tensor of a source that is copied, not averaged."""
    if isinstance(source, SumReader):
        (part,) = source.parts[name]
        return part, source.checkpoint.view(part.name)
    return source.tensors[name], source.view(name)


def terms_of(source: Source, name: str) -> Terms:
    """The terms of a source in the sum of a tensor; LedgerError for an invalid sum."""
    if not isinstance(source, SumReader):
        return Terms(((source.tensors[name], source.view(name)),))
    dense: list[StoredTensor] = []
    sparse: list[SparsePlane] = []
    stored = iter([(part, source.checkpoint.view(part.name)) for part in source.parts[name]])
    for part, view in stored:
        if part.dtype.kind is Kind.FLOAT:
            dense.append((part, view))
            continue
        values = next(stored)
        try:
            plane = SparseArray(view, values[1], part.dtype, source.tensors[name].count)
        except ValueError as error:
            raise invalid_sum(source.label, str(error), name) from None
        sparse.append(SparsePlane(plane, ((part, view), values)))
    return Terms(tuple(dense), tuple(sparse))


def invalid_sum(label: str, problem: str, tensor: str | None = None) -> LedgerError:
    """The error for a kept sum that no soup can have."""
    return LedgerError(f"is not a valid sum: {problem}", path=label, tensor=tensor, advice=REMOVE)
