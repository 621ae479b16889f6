"""The transformer of Flux, as Black Forest Labs names it.

Source: diffusers, `convert_flux_transformer_checkpoint_to_diffusers`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...lora.pairs import FLUX, FLUX_NORMS
from .pairs import PairTable, TensorPair, tensor_pairs

TABLE = PairTable((*tensor_pairs(FLUX), *tensor_pairs(FLUX_NORMS, {".scale": ".weight"})))


def flux_pairs(names: Collection[str]) -> Iterator[TensorPair]:
    """The pairs of the tensors of a Flux with these names, in either layout."""
    return TABLE.pairs_of(names)
