"""The weights of linear layers that are stored in eight bits, by their names and shapes alone.

Rule 1: the choice depends only on a soup's own names and shapes, so that it is the same whichever
ingredients remain.
Rule 2: norms, embeddings, modulations and the first and last layers of a model keep their width, as
is usual in such files.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ..pattern import pattern

WEIGHT = ".weight"
DENOISER = "model.diffusion_model."
"""Prefix of the denoiser in a file with several models; the others are left alone."""

_IN_BLOCK = pattern(r"(^|\.)[0-9]+\.")
"""Matches the number of a repeated block."""
_KEPT = pattern(
    r"norm|emb|relative_attention_bias|router|(^|\.)gate\.|adaln|modulation|(^|[._])mod(_|\.|$)|time_|head\.",
    re.IGNORECASE,
)


def quantised_prefix(names: Collection[str]) -> str:
    """The prefix of the tensors of a file that are quantised."""
    return DENOISER if any(name.startswith(DENOISER) for name in names) else ""


def is_quantisable(name: str, shape: tuple[int, ...], prefix: str) -> bool:
    """Whether a tensor below the prefix is the weight of a linear layer within a block."""
    own = name.removeprefix(prefix)
    return (
        name.startswith(prefix)
        and own.endswith(WEIGHT)
        and len(shape) == 2
        and 0 not in shape
        and _IN_BLOCK.search(own) is not None
        and _KEPT.search(own) is None
    )
