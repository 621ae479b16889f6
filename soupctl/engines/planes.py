"""Sparse planes of a sum or a delta: only nonzero elements are stored.

Rule 1: importing this module does not load numpy, so that planning stays quick.
"""

from __future__ import annotations

from ..format.dtypes import DType

INDEX_NAMES = {DType.U32: "u4", DType.U64: "u8"}


def word(dtype: DType) -> str:
    """The numpy name of unsigned integers with the width of a dtype."""
    return f"u{dtype.bits // 8}"


def count_present(plane: memoryview, dtype: DType = DType.F64) -> int:
    """The number of nonzero elements of a plane, which holds no -0.0."""
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(plane, word(dtype))))


def most_significant_bits(plane: memoryview) -> int:
    """The most bits that the significand of a finite F64 element takes; 0 if all are zero."""
    import numpy as np

    values = np.frombuffer(plane, np.float64)
    whole = (np.frexp(values)[0] * 2.0**53).astype(np.int64)
    whole = whole[whole != 0]
    if not whole.size:
        return 0
    _, lowest = np.frexp((whole & -whole).astype(np.float64))
    return 54 - int(lowest.min())


def negative_zeros(values: memoryview, dtype: DType, start: int, index: DType) -> memoryview:
    """The positions, counted from `start`, of -0.0 among the elements of a float dtype."""
    import numpy as np

    words = np.frombuffer(values, word(dtype))
    (places,) = np.nonzero(words == 1 << (dtype.bits - 1))
    return (places + start).astype(INDEX_NAMES[index]).data.cast("B")


def negated(values: memoryview) -> memoryview:
    """The F64 elements with the opposite sign."""
    import numpy as np

    return np.negative(np.frombuffer(values, np.float64)).data.cast("B")


def present(
    plane: memoryview, start: int, index: DType, dtype: DType = DType.F64
) -> tuple[memoryview, memoryview]:
    """The positions, counted from `start`, and the values of nonzero elements."""
    import numpy as np

    values = np.frombuffer(plane, word(dtype))
    (places,) = np.nonzero(values)
    shifted = (places + start).astype(INDEX_NAMES[index])
    return shifted.data.cast("B"), values[places].data.cast("B")


def count_before(places: memoryview, index: DType, start: int, stop: int) -> int:
    """The number of positions before `stop`; ValueError unless they ascend, from `start` on."""
    import numpy as np

    numbers = np.frombuffer(places, INDEX_NAMES[index])
    if numbers.size and not (numbers[0] >= start and (numbers[:-1] < numbers[1:]).all()):
        raise ValueError("places are out of order")
    # checks the last position, not `stop`, which the dtype may be unable to hold
    return int(np.searchsorted(numbers, numbers.dtype.type(stop - 1), side="right"))


def spread(
    places: memoryview,
    values: memoryview,
    index: DType,
    start: int,
    out: memoryview,
    dtype: DType = DType.F64,
) -> None:
    """Fill `out`, the plane's elements from `start` on, with these values and zeros.

    A single value is used for all positions.
    """
    import numpy as np

    numbers = np.frombuffer(places, INDEX_NAMES[index])
    plane = np.frombuffer(out, word(dtype))
    plane.fill(0)
    plane[numbers - numbers.dtype.type(start)] = np.frombuffer(values, word(dtype))
