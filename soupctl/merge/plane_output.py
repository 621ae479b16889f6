"""Writing the planes of one tensor, each a tensor of its own in the file."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from ..checkpoints.digest import Row, tensor_hasher
from ..errors import OutputError
from ..format.dtypes import DType
from .chunks import Write


class PlaneOutput:
    """Appends to the planes of one tensor, and digests them; their sizes are fixed beforehand."""

    def __init__(
        self, name: str, entries: Iterable[tuple[str, DType, tuple[int, ...]]], write: Write
    ) -> None:
        """`entries` are the planes; each has as key its name before the first colon."""
        self._name = name
        self._write = write
        self.entries = {entry[0].partition(":")[0]: entry for entry in entries}
        self._sizes = {
            mark: prod(shape) * dtype.bits // 8 for mark, (_, dtype, shape) in self.entries.items()
        }
        self._hashers = {mark: tensor_hasher() for mark in self.entries}
        self._written = dict.fromkeys(self.entries, 0)

    def append(self, mark: str, data: memoryview) -> None:
        """Append bytes to the plane with that key; OutputError if they exceed its size."""
        self.write(mark, self._written[mark], data)
        self.record(mark, data)

    def write(self, mark: str, offset: int, data: memoryview) -> None:
        """Write bytes at an offset within a plane, which are then to be recorded in order.

        Several threads may do so at once. Raises OutputError if they exceed its size.
        """
        self.require(offset + len(data) <= self._sizes[mark])
        self._write(self.entries[mark][0], offset, data)

    def record(self, mark: str, data: memoryview) -> None:
        """Digest bytes that were written after those that were recorded before."""
        self._hashers[mark].update(data)
        self._written[mark] += len(data)

    def rows(self) -> list[Row]:
        """The tensors that were written, for the file's root; OutputError if one is incomplete."""
        self.require(self._written == self._sizes)
        return [
            (name, dtype.value, shape, self._hashers[mark].hexdigest())
            for mark, (name, dtype, shape) in self.entries.items()
        ]

    def require(self, fits: bool) -> None:
        """Raise OutputError unless the data fits the form that was determined for it."""
        if not fits:
            raise OutputError("an input was changed while it was read", tensor=self._name)
