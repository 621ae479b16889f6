"""The tensors of a checkpoint as lines: each of a few, and many counted by block."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from .console import counted, size_text

if TYPE_CHECKING:
    from ..format.header import Tensor
    from ..kinds.classify import Kinds

FEW = 20
"""The most tensors listed one by one, and the most blocks listed."""


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
    block_of = _grouping(tensors)
    for tensor in tensors:
        blocks[block_of(tensor.name)].append(tensor)
    names = sorted(blocks, key=_in_order)
    width = max(map(len, names[:FEW]))
    for name in names[:FEW]:
        dtypes = Counter(tensor.dtype.value for tensor in blocks[name])
        parameters = sum(prod(tensor.shape) for tensor in blocks[name])
        size = size_text(sum(tensor.size for tensor in blocks[name]))
        count = counted(len(blocks[name]), "tensor")
        yield f"{name:{width}}  {count:11}  {parameters:,} ({size}), {', '.join(sorted(dtypes))}"
    if len(names) > FEW:
        yield f"... and {counted(len(names) - FEW, 'more block')}"


def _grouping(tensors: Sequence[Tensor]) -> Callable[[str], str]:
    """The finest grouping of tensors that makes few groups, or else the coarsest."""
    ways = (_numbered_block, _kind_of_block, _first_part)
    fits = (way for way in ways if len({way(tensor.name) for tensor in tensors}) <= FEW)
    return next(fits, _first_part)


def _numbered_block(name: str) -> str:
    """`down_blocks.0` of `down_blocks.0.resnets.1.weight`; the first part if there is no number."""
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[: number + 1])


def _kind_of_block(name: str) -> str:
    """`down_blocks.*` of `down_blocks.0.resnets.1.weight`."""
    block, dot, number = _numbered_block(name).rpartition(".")
    return f"{block}.*" if dot and number.isdecimal() else number


def _first_part(name: str) -> str:
    return name.partition(".")[0]


def _in_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts `blocks.2` before `blocks.10`."""
    # by the number of digits first, because a name may have more digits than Python parses
    return [(len(part) if part.isdecimal() else 0, part) for part in name.split(".")]
