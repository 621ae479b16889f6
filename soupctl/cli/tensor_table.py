"""The tensors of a checkpoint as lines: each of a few, and many counted by block."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from ..merge.blocks.grouping import FEW, in_order, numbered_grouping
from .console import counted, size_text

if TYPE_CHECKING:
    from ..format.header import Tensor
    from ..kinds.classify import Kinds


def tensor_lines(tensors: Sequence[Tensor], kinds: Kinds, *, every: bool) -> Iterator[str]:
    """A line for each block if there are many tensors; for each tensor if few, or if `every`.

    A tensor that is not a plain weight is followed by its kind.
    """
    is_many = len(tensors) > FEW
    if is_many:
        yield from _block_lines(tensors)
    if every or not is_many:
        yield from _tensor_lines(tensors, kinds)
    else:
        yield "(--tensors lists every tensor)"


def _tensor_lines(tensors: Sequence[Tensor], kinds: Kinds) -> Iterator[str]:
    width = max((len(str(list(tensor.shape))) for tensor in tensors), default=0)
    for tensor in tensors:
        shape = str(list(tensor.shape))
        kind = f"  {kinds[tensor.name].text}" if tensor.name in kinds else ""
        yield f"{tensor.dtype.value:8} {shape:{width}}  {tensor.name}{kind}"


def _block_lines(tensors: Sequence[Tensor]) -> Iterator[str]:
    """Count, dtypes and bytes of each block, in the order of its number."""
    blocks: dict[str, list[Tensor]] = defaultdict(list)
    block_of = numbered_grouping([tensor.name for tensor in tensors])
    for tensor in tensors:
        blocks[block_of(tensor.name)].append(tensor)
    names = sorted(blocks, key=in_order)
    width = max(map(len, names[:FEW]))
    for name in names[:FEW]:
        dtypes = Counter(tensor.dtype.value for tensor in blocks[name])
        parameters = sum(prod(tensor.shape) for tensor in blocks[name])
        size = size_text(sum(tensor.size for tensor in blocks[name]))
        count = counted(len(blocks[name]), "tensor")
        yield f"{name:{width}}  {count:11}  {parameters:,} ({size}), {', '.join(sorted(dtypes))}"
    if len(names) > FEW:
        yield f"... and {counted(len(names) - FEW, 'more block')}"
