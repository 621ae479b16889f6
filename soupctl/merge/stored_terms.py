"""The stored tensors that hold the terms of one source in the sum of a tensor, as values."""

from __future__ import annotations

from dataclasses import dataclass

from ..checkpoints.safetensors import StoredTensor


@dataclass(frozen=True, slots=True)
class StoredTerms:
    """The terms of one source in the sum of a tensor."""

    dense: tuple[StoredTensor, ...]
    sparse: tuple[tuple[StoredTensor, StoredTensor], ...] = ()
    """Sparse planes: the places of the elements that are not zero, and their values."""
    negative_zeros: StoredTensor | None = None
    """The places of zeros that get a sign."""
