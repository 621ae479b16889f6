"""The weights of a soup's ingredients as a table by block."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from fnmatch import translate
from fractions import Fraction

from ...frozen import frozen
from ...ledger.block_weights import WeightByBlock, WeightTuple
from .families import named_blocks

DEFAULT = "default"
"""The name of the row for tensors in no block."""


@frozen
class BlockRow:
    """The weights of the ingredients in one block."""

    name: str
    """The block's name, or its glob."""
    globs: tuple[str, ...]
    tensors: int
    """The number of its tensors."""
    weights: WeightTuple
    """In the order of the ingredients."""
    added: tuple[bool, ...] = ()
    """Which of them are deltas, that are added to the mean of the others; empty for none."""
    normalize: bool = True
    """Whether the sum of the ingredients is divided by their total weight."""

    @property
    def total(self) -> Fraction:
        """The weight of all ingredients but deltas."""
        return sum((w for w, is_added in self._pairs if not is_added), Fraction(0))

    @property
    def shares(self) -> WeightTuple:
        """The share of each ingredient in the mean, or the scale of a delta."""
        total = self.total if self.normalize else Fraction(1)
        return tuple(Fraction(w) / (1 if is_added else total) for w, is_added in self._pairs)

    @property
    def _pairs(self) -> Iterator[tuple[Fraction, bool]]:
        return zip(self.weights, self.added or (False,) * len(self.weights), strict=True)


def block_rows(
    globs: Sequence[str],
    weights: Sequence[WeightByBlock],
    names: Collection[str],
    added: Sequence[bool] = (),
    *,
    normalize: bool = True,
) -> tuple[BlockRow, ...]:
    """A row for each block with tensors called `names`; empty if there are no blocks.

    `weights` are those of the ingredients, of which `added` are deltas, and `normalize` tells
    whether their sum is divided by their total. Tensors that are in no block come first, and the
    named blocks of a UNet are in its order.
    """
    if not globs:
        return ()
    matches = [re.compile(translate(glob)).match for glob in globs]
    counts = Counter(
        next((place for place, match in enumerate(matches) if match(name)), -1) for name in names
    )
    known = named_blocks(names)
    columns = [tuple(each.usual for each in weights)]
    columns += zip(*(each.spread(len(globs)) for each in weights), strict=True)
    rows: dict[tuple[str, WeightTuple], BlockRow] = {}
    for place in sorted(counts):
        glob = () if place < 0 else (globs[place],)
        name = known.name_of(*glob) if glob and known else "".join(glob) or DEFAULT
        key = name, columns[place + 1]
        other = rows.get(key, BlockRow(name, (), 0, key[1]))
        count = other.tensors + counts[place]
        rows[key] = BlockRow(name, (*other.globs, *glob), count, key[1], tuple(added), normalize)
    if (
        known is not None
        and known.is_unet
        and all(row.name in {*known.globs, DEFAULT} for row in rows.values())
    ):
        return tuple(sorted(rows.values(), key=lambda row: (row.name != DEFAULT, row.name)))
    return tuple(rows.values())
