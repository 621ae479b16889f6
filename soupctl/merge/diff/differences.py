"""What differs between two checkpoints, as values."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...engines.moments import Moments, joined
from ...format.dtypes import DType
from ...frozen import frozen


@frozen
class TensorDifference:
    """A tensor that both checkpoints have, in one shape."""

    name: str
    dtypes: tuple[DType, DType]
    is_equal: bool
    """Whether its dtype and all bytes are the same in both."""
    moments: Moments
    """Its sums; without the norms if it does not hold floating-point numbers."""
    zeros_in: int | None = None
    """Which of the two, 0 or 1, holds only zeros while the other does not."""
    is_transposed: bool = False
    """Whether one is the other with rows and columns exchanged."""


@frozen
class ReshapedTensor:
    """A tensor that has another shape in each checkpoint."""

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    is_transposed: bool
    """Whether one is the other with rows and columns exchanged."""


@frozen
class GroupDifference:
    """Several tensors of both checkpoints together."""

    name: str
    tensors: int
    differing: int
    """The number of tensors that differ."""
    moments: Moments


@frozen
class CheckpointDifference:
    """One component of two checkpoints, compared."""

    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    labels: tuple[str, str]
    """The names of both in messages."""
    tensors: tuple[TensorDifference, ...]
    """In the order of their names."""
    only: tuple[tuple[str, ...], tuple[str, ...]]
    """The names of tensors that only the first has, and only the second."""
    reshaped: tuple[ReshapedTensor, ...]
    renamed: str | None
    """The renaming that was undone in the second; None if both use the same names."""

    @property
    def is_equal(self) -> bool:
        """Whether both have the same tensors by the same names, to the last byte."""
        same_names = self.renamed is None and not any(self.only) and not self.reshaped
        return same_names and all(each.is_equal for each in self.tensors)

    @property
    def differing(self) -> tuple[TensorDifference, ...]:
        """The tensors that both have and that are not equal."""
        return tuple(each for each in self.tensors if not each.is_equal)

    @property
    def total(self) -> GroupDifference:
        """All tensors that both have."""
        return _group("", self.tensors)

    @property
    def most_changed(self) -> TensorDifference | None:
        """The tensor with the largest change of an element; None if no number changed."""
        changed = (each for each in self.tensors if each.moments.largest > 0)
        return max(changed, key=lambda each: each.moments.largest, default=None)

    def grouped(self, group_of: Callable[[str], str]) -> tuple[GroupDifference, ...]:
        """The tensors by group, in the order of their first names."""
        groups: dict[str, list[TensorDifference]] = {}
        for each in self.tensors:
            groups.setdefault(group_of(each.name), []).append(each)
        return tuple(_group(name, members) for name, members in groups.items())


def _group(name: str, members: Iterable[TensorDifference]) -> GroupDifference:
    every = list(members)
    differing = sum(not each.is_equal for each in every)
    return GroupDifference(name, len(every), differing, joined(each.moments for each in every))
