"""Facts of a base's files: parameters and dtypes from headers, and digests."""

from __future__ import annotations

from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.open import open_input
from ..checkpoints.safetensors import read_header
from ..format.dtypes import DType
from .base import Base


def parameter_counts(base: Base) -> dict[str, int]:
    """The number of parameters of each component, by folder, from headers."""
    return {
        name: sum(tensor.count for file in component.files for tensor in read_header(file).tensors)
        for name, component in base.files.weights.items()
    }


def weight_dtypes(base: Base) -> dict[DType, int]:
    """The number of the denoiser's parameters of each dtype, from headers."""
    counts: dict[DType, int] = {}
    for file in base.files.weights[base.denoiser].files:
        for tensor in read_header(file).tensors:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.count
    return counts


def base_digests(base: Base) -> dict[str, str]:
    """Content digests of a base's weights by component; a bare denoiser has the empty name.

    Raises OutputError for a file that changed since the base was read.
    """
    found = {}
    for name, component in base.files.weights.items():
        with open_input(component) as checkpoint:
            found[name] = checkpoint_digest(checkpoint)
            checkpoint.require_unchanged()
    base.files.require_unchanged()
    return found


def file_digests(base: Base) -> dict[str, str]:
    """Digests of the configs and vocabularies that training depends on, by component."""
    return {name: base.files.digest(name) for name in base.loaded}
