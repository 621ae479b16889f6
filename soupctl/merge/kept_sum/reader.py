"""Kept sums as sources, and the terms of any source in the sum of a tensor.

Rule 1: a kept sum has one whole-number weight, which its planes share.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.safetensors import StoredTensor
from ...errors import LedgerError
from ...format.dtypes import Kind
from ...format.header import Tensor
from ...ledger.read import is_sum
from ..adapter_reader import AdapterReader
from ..delta.reader import DeltaReader
from ..scaled_codes import companions_of
from ..stored_terms import StoredTerms
from .format import REMOVE, planes_by_tensor


class SumReader:
    """An open sum: the tensors that hold the sum of each tensor of the soup, by name."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raise LedgerError for a checkpoint that is not a sum."""
        self.checkpoint = checkpoint
        try:
            self.planes = planes_by_tensor(checkpoint.tensors.values())
        except ValueError as error:
            raise invalid_sum(self.label, str(error)) from None
        self.tensors: Mapping[str, Tensor] = {
            name: Tensor(name, planes[0].dtype, planes[0].shape, 0, planes[0].size)
            for name, planes in self.planes.items()
        }

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.checkpoint.label


class AlignedCheckpoint:
    """A checkpoint under the names of a soup, where they differ from its own."""

    def __init__(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        """`tensors` are its own by other names; of the names of one tensor, the last is a copy."""
        self.checkpoint = checkpoint
        self.tensors = tensors
        seen: set[str] = set()
        copies = []
        for name, tensor in tensors.items():
            if tensor.name in seen:
                copies.append(name)
            seen.add(tensor.name)
        self.copies = frozenset(copies)
        """Names of tensors that have another name in the soup as well."""

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.checkpoint.label

    @property
    def digest(self) -> str | None:
        """Its content digest, if that is known."""
        return self.checkpoint.digest

    def stored(self, name: str) -> StoredTensor:
        """A tensor, open for reading, by its name in the soup."""
        return self.checkpoint.stored(self.tensors[name].name)


def soup_names(soup: Checkpoint) -> Collection[str]:
    """The names of a soup's tensors, also for a soup that is read as its sum."""
    if is_sum(soup):
        return SumReader(soup).planes.keys()
    return soup.tensors.keys() - companions_of(soup.tensors)


Source = Checkpoint | SumReader | AlignedCheckpoint | DeltaReader | AdapterReader
"""A source of a soup."""


def recorded_digest(source: Source) -> str | None:
    """The content digest of a source that was digested since it was opened."""
    return source.checkpoint.digest if isinstance(source, SumReader) else source.digest


def is_extra_name(source: Source, name: str) -> bool:
    """Whether a name is a second name of a tensor that is read under another."""
    return isinstance(source, AlignedCheckpoint) and name in source.copies


def tensors_read(source: Source, name: str) -> tuple[Tensor, ...]:
    """The tensors in a source's files that are digested when its tensor of a name is read."""
    if is_extra_name(source, name):
        return ()
    if isinstance(source, AdapterReader):
        # its factors are digested under their own names
        return () if name in source.changed else (source.checkpoint.tensors[name],)
    if isinstance(source, SumReader):
        return tuple(source.planes[name])
    if isinstance(source, DeltaReader):
        return tuple(source.planes[name].every)
    return (source.tensors[name],)


def copied_tensor(source: Source, name: str) -> StoredTensor:
    """The tensor of a source that is copied, not averaged."""
    if isinstance(source, SumReader):
        (plane,) = source.planes[name]
        return source.checkpoint.stored(plane.name)
    if isinstance(source, DeltaReader):
        (stored,) = source.stored_planes(name)
        return stored
    return source.stored(name)


def stored_planes(source: Source, name: str) -> tuple[StoredTensor, ...]:
    """All stored tensors of a source for a tensor that is not averaged."""
    if isinstance(source, DeltaReader):
        return source.stored_planes(name)
    if isinstance(source, SumReader):
        return tuple(source.checkpoint.stored(plane.name) for plane in source.planes[name])
    return (copied_tensor(source, name),)


def stored_terms(source: Source, name: str) -> StoredTerms:
    """The terms of a source in the sum of a tensor."""
    if isinstance(source, DeltaReader):
        return source.stored_terms(name)
    if isinstance(source, AdapterReader):
        return StoredTerms(())
    if not isinstance(source, SumReader):
        return StoredTerms((source.stored(name),))
    dense: list[StoredTensor] = []
    sparse: list[tuple[StoredTensor, StoredTensor]] = []
    stored = (source.checkpoint.stored(plane.name) for plane in source.planes[name])
    for plane in stored:
        if plane.tensor.dtype.kind is Kind.FLOAT:
            dense.append(plane)
        else:
            sparse.append((plane, next(stored)))
    return StoredTerms(tuple(dense), tuple(sparse))


def invalid_sum(label: str, problem: str, tensor: str | None = None) -> LedgerError:
    """The error for a malformed kept sum."""
    return LedgerError(f"is not a valid sum: {problem}", path=label, tensor=tensor, advice=REMOVE)
