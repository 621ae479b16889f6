"""The transformer of Flux, as Black Forest Labs names it.

Source: diffusers, `convert_flux_transformer_checkpoint_to_diffusers`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...lora.pairs import FLUX
from .pairs import PairTable, TensorPair, plain, tensor_pairs

NORMS = {
    "double_blocks.{}.img_attn.norm.query_norm.scale": "transformer_blocks.{}.attn.norm_q.weight",
    "double_blocks.{}.img_attn.norm.key_norm.scale": "transformer_blocks.{}.attn.norm_k.weight",
    "double_blocks.{}.txt_attn.norm.query_norm.scale": (
        "transformer_blocks.{}.attn.norm_added_q.weight"
    ),
    "double_blocks.{}.txt_attn.norm.key_norm.scale": (
        "transformer_blocks.{}.attn.norm_added_k.weight"
    ),
    "single_blocks.{}.norm.query_norm.scale": "single_transformer_blocks.{}.attn.norm_q.weight",
    "single_blocks.{}.norm.key_norm.scale": "single_transformer_blocks.{}.attn.norm_k.weight",
}
TABLE = PairTable((*tensor_pairs(FLUX), *plain(NORMS)))


def flux_pairs(names: Collection[str]) -> Iterator[TensorPair]:
    """The pairs of the tensors of a Flux with these names, in either layout."""
    return TABLE.pairs_of(names)
