"""Sparse planes of a sum: only nonzero elements are stored.

Rule 1: importing this module does not load numpy, so that planning stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..format.dtypes import DType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX_NAMES = {DType.U32: "u4", DType.U64: "u8"}
PIECE = 1 << 16


def count_present(plane: memoryview) -> int:
    """Number of nonzero elements of a plane."""
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(plane, np.float64)))


def present(plane: memoryview, start: int, index: DType) -> tuple[memoryview, memoryview]:
    """The places, counted from `start`, and the values of the elements that are not zero."""
    import numpy as np

    values = np.frombuffer(plane, np.float64)
    (places,) = np.nonzero(values)
    shifted = (places + start).astype(INDEX_NAMES[index])
    return shifted.data.cast("B"), values[places].data.cast("B")


def _rising(places: NDArray[np.unsignedinteger]) -> bool:
    """Whether each is above the one before; looked at in pieces, as there may be many."""
    pieces = (places[start : start + PIECE + 1] for start in range(0, places.size, PIECE))
    return all(bool((piece[:-1] < piece[1:]).all()) for piece in pieces)


class SparseArray:
    """A sparse plane of `count` elements: only nonzero ones are stored."""

    def __init__(self, places: memoryview, values: memoryview, index: DType, count: int) -> None:
        """Raise ValueError for places that are not in order or not within the plane."""
        import numpy as np

        self._places: NDArray[np.unsignedinteger] = np.frombuffer(places, INDEX_NAMES[index])
        self._values = np.frombuffer(values, np.float64)
        if self._places.size and not (_rising(self._places) and self._places[-1] < count):
            raise ValueError("places are out of order")

    def dense(self, start: int, stop: int) -> memoryview:
        """The bytes of elements `start` to `stop`, zeros included."""
        import numpy as np

        plane = np.zeros(stop - start, np.float64)
        # of the last place and not of `stop`, which the dtype may not hold
        first = np.searchsorted(self._places, self._places.dtype.type(start))
        last = np.searchsorted(self._places, self._places.dtype.type(stop - 1), side="right")
        plane[self._places[first:last] - self._places.dtype.type(start)] = self._values[first:last]
        return plane.data.cast("B")
