"""Sparse planes of a sum: only nonzero elements are stored.

Rule 1: importing this module does not load numpy, so that planning stays quick.
"""

from __future__ import annotations

from ..format.dtypes import DType

INDEX_NAMES = {DType.U32: "u4", DType.U64: "u8"}


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


def count_before(places: memoryview, index: DType, start: int, stop: int) -> int:
    """How many of the places are before `stop`; ValueError unless they rise, from `start` on."""
    import numpy as np

    numbers = np.frombuffer(places, INDEX_NAMES[index])
    if numbers.size and not (numbers[0] >= start and (numbers[:-1] < numbers[1:]).all()):
        raise ValueError("places are out of order")
    # of the last place and not of `stop`, which the dtype may not hold
    return int(np.searchsorted(numbers, numbers.dtype.type(stop - 1), side="right"))


def spread(
    places: memoryview, values: memoryview, index: DType, start: int, out: memoryview
) -> None:
    """Fill `out`, the plane's elements from `start` on, with these values and zeros."""
    import numpy as np

    numbers = np.frombuffer(places, INDEX_NAMES[index])
    plane = np.frombuffer(out, np.float64)
    plane.fill(0.0)
    plane[numbers - numbers.dtype.type(start)] = np.frombuffer(values, np.float64)
