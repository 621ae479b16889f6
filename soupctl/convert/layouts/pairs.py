"""Pairs of tensors in two layouts, and how one is made of the other.

Rule 1: every change can be undone, bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum

from ...frozen import frozen
from ...lora.name_pair import NamePair

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""Matches the number of a block in the name of a tensor."""


class LayoutChange(Enum):
    """How the values of a tensor differ in the two layouts."""

    NONE = "none"
    FUSED = "rows of several"
    """The original holds the rows of several tensors of diffusers, one after the other."""
    SWAPPED = "halves swapped"
    TRANSPOSED = "transposed"
    POINTWISE = "1x1 convolution"
    """The original is a convolution of 1x1, and that of diffusers a matrix."""


@frozen
class TensorPair:
    """A tensor by its original name, and its name or names in diffusers."""

    original: str
    parts: tuple[str, ...]
    change: LayoutChange = LayoutChange.NONE


def tensor_pairs(
    modules: Iterable[NamePair], ends: Mapping[str, str] | None = None
) -> Iterator[TensorPair]:
    """The weights and biases of pairs of modules; `ends` are the two ends of names by layout."""
    for pair in modules:
        change = LayoutChange.SWAPPED if pair.is_swapped else LayoutChange.NONE
        change = LayoutChange.FUSED if len(pair.parts) > 1 else change
        for original, other in (ends or {".weight": ".weight", ".bias": ".bias"}).items():
            parts = tuple(f"{part}{other}" for part in pair.parts)
            yield TensorPair(f"{pair.original}{original}", parts, change)


def plain(pairs: Mapping[str, str]) -> Iterator[TensorPair]:
    """Pairs of tensors that differ in their names alone."""
    for original, other in pairs.items():
        yield TensorPair(original, (other,))


class PairTable:
    """Pairs by the names of their tensors in either layout; `{}` is the number of a block."""

    def __init__(self, pairs: Iterable[TensorPair]) -> None:
        self._known: dict[str, TensorPair] = {}
        for pair in pairs:
            for name in (pair.original, *pair.parts):
                self._known[name] = pair

    def pairs_of(self, names: Collection[str]) -> Iterator[TensorPair]:
        """The pairs that the tensors of a model are in, each once."""
        found: dict[TensorPair, None] = {}
        for name in names:
            number = NUMBER.search(name)
            pair = self._known.get(name)
            if pair is None and number is not None:
                pattern = f"{name[: number.start()]}{{}}{name[number.end() :]}"
                pair = self._known.get(pattern)
                pair = None if pair is None else _numbered(pair, number[0])
            if pair is not None:
                found[pair] = None
        yield from found


def _numbered(pair: TensorPair, number: str) -> TensorPair:
    parts = tuple(part.replace("{}", number) for part in pair.parts)
    return TensorPair(pair.original.replace("{}", number), parts, pair.change)
