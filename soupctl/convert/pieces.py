"""What the tensors of a conversion are made of: ranges of input tensors, one after the other.

Rule 1: every input tensor is read in order and once, so each range knows where it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..format.header import Tensor
from ..frozen import frozen


@frozen
class TensorRange:
    """A range of elements of an input tensor, in the order in which they are stored."""

    component: int
    """The index of the input's component."""
    tensor: str
    first: int
    count: int
    is_transposed: bool = False
    """Whether it is a whole matrix of which rows become columns."""


@frozen
class ArrangedTensor:
    """An output tensor: its name and shape, and the ranges that fill it."""

    name: str
    shape: tuple[int, ...]
    ranges: tuple[TensorRange, ...]


@frozen
class ArrangedComponent:
    """One component of the output; its name is its folder, empty for the only one."""

    name: str
    tensors: tuple[ArrangedTensor, ...]


Contents = Mapping[str, Tensor]


def as_they_are(components: Sequence[tuple[str, Contents]]) -> tuple[ArrangedComponent, ...]:
    """The components of an input, by name and with their tensors, unchanged."""
    return tuple(
        ArrangedComponent(name, tuple(_whole(number, tensor) for tensor in tensors.values()))
        for number, (name, tensors) in enumerate(components)
    )


def _whole(component: int, tensor: Tensor) -> ArrangedTensor:
    ranges = (TensorRange(component, tensor.name, 0, tensor.count),)
    return ArrangedTensor(tensor.name, tensor.shape, ranges)


def places(tensor: ArrangedTensor) -> Iterator[tuple[TensorRange, int]]:
    """Each range of a tensor, and the element of the tensor that it begins at."""
    start = 0
    for each in tensor.ranges:
        yield each, start
        start += each.count
