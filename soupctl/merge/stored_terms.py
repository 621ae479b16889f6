"""The stored tensors with the terms of one source in the sum of a tensor."""

from __future__ import annotations

from ..checkpoints.safetensors import StoredTensor
from ..frozen import frozen


@frozen
class StoredTerms:
    """The terms of one source in the sum of a tensor."""

    dense: tuple[StoredTensor, ...]
    sparse: tuple[tuple[StoredTensor, StoredTensor], ...] = ()
    """Sparse planes: the places of nonzero elements, and their values."""
    negative_zeros: StoredTensor | None = None
    """The places of zeros that become -0.0."""
