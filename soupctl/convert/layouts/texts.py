"""The text encoders: those of OpenAI keep the names of transformers, those of OpenCLIP do not.

Source: diffusers, `convert_ldm_clip_checkpoint` and `convert_open_clip_checkpoint`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...lora.pairs import OPEN_CLIP
from .pairs import LayoutChange, PairTable, TensorPair, plain, tensor_pairs

WRAPPED = "text_model."
"""The prefix that transformers gave all names but that of the projection until 5.6."""
PROJECTION = "text_projection"
FUSED = {"_weight": ".weight", "_bias": ".bias"}
"""The ends of the fused matrix of an attention, and those of its parts."""


def _wrapped() -> Iterator[TensorPair]:
    """The pairs that adapters change, within the wrapper."""
    for module in OPEN_CLIP:
        ends = FUSED if len(module.parts) > 1 else None
        for pair in tensor_pairs([module], ends):
            parts = tuple(WRAPPED + part for part in pair.parts)
            yield TensorPair(pair.original, parts, pair.change)


TABLE = PairTable(
    (
        *_wrapped(),
        *plain(
            {
                "positional_embedding": "text_model.embeddings.position_embedding.weight",
            }
        ),
        TensorPair(PROJECTION, (f"{PROJECTION}.weight",), LayoutChange.TRANSPOSED),
    )
)


def open_clip_pairs(names: Collection[str]) -> Iterator[TensorPair]:
    """The pairs of the tensors of an OpenCLIP encoder with these names, in either layout."""
    return TABLE.pairs_of(names)


def same_pairs(names: Collection[str]) -> Iterator[TensorPair]:
    """The pairs of an encoder that has the same names in both layouts."""
    return plain({name: name for name in names})


def wrapped(names: Collection[str]) -> dict[str, str]:
    """The name of each tensor of a CLIP encoder with the prefix that most files have, by its own.

    Encoders of T5, which never had it, keep their names.
    """
    is_flat = any(name.startswith("embeddings.") for name in names)
    return {
        name: WRAPPED + name if is_flat and not name.startswith((WRAPPED, PROJECTION)) else name
        for name in names
    }
