"""Quantised tensors that are averaged by value: codes times scales.

Rule 1: a scale and its companions are not tensors of the soup, which holds the values instead.
Rule 2: codes count as tensors of the width that the other weights of their checkpoint have.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from ..format.dtypes import DType
from ..format.header import Tensor
from ..format.scales import CodeScale
from ..kinds.classify import Kinds, kind_of
from ..kinds.codes import find_codes
from ..kinds.facts import NO_FACTS
from ..kinds.kind import QUANTISED, Role
from ..kinds.quantised import MARKER

QUANTISED_LAYERS = "_quantization_metadata"
"""The key of the metadata in which ComfyUI lists quantised layers."""

WIDTHS = (DType.BF16, DType.F16)
"""Dtypes of two-byte weights, first the one for checkpoints without any."""


def code_scale(kinds: Kinds, tensor: str) -> CodeScale | None:
    """The scale of a tensor; None if it is not a code, or cannot be read exactly."""
    return kind_of(kinds, tensor).scale


def absorbed(kinds: Kinds) -> frozenset[str]:
    """The companions of codes that are read: their scales and markers."""
    codes = {name for name, kind in kinds.items() if kind.scale is not None}
    others = {name for name, kind in kinds.items() if kind.role is Role.CODE and name not in codes}
    in_order, others_in_order = sorted(codes), sorted(others)

    def belongs(name: str, of: str | None) -> bool:
        if of is not None:
            return of in codes
        # a marker of one layer, of all layers below a prefix, or of the whole file
        prefix, last = name[: name.rfind(".") + 1], name[name.rfind(".") + 1 :]
        # one of a file without scales says nothing: ComfyUI reads its weights as they are
        is_idle = last == MARKER and not _has(others_in_order, prefix)
        return is_idle or _has(in_order, prefix)

    companions = ((n, kind.of) for n, kind in kinds.items() if kind.role is Role.COMPANION)
    return frozenset(name for name, of in companions if belongs(name, of))


def _has(in_order: Sequence[str], prefix: str) -> bool:
    """Whether any of some sorted names begins with a prefix."""
    return any(name.startswith(prefix) for name in in_order[bisect_left(in_order, prefix) :][:1])


def companions_of(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """The companions of codes that are read, by their names and shapes alone."""
    return absorbed(find_codes(tensors, NO_FACTS))


def width_of(tensors: Mapping[str, Tensor], kinds: Kinds) -> DType:
    """The two-byte dtype of most elements of unquantised tensors."""
    counts = dict.fromkeys(WIDTHS, 0)
    for name, tensor in tensors.items():
        if tensor.dtype in counts and kind_of(kinds, name).role not in QUANTISED:
            counts[tensor.dtype] += tensor.count
    return max(WIDTHS, key=counts.__getitem__)
