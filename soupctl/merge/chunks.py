"""Chunks: the part of a tensor that is read at a time, small enough for a core's cache.

Rule 1: nothing here can change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..format.dtypes import DType

Write = Callable[[str, int, memoryview], None]
"""Writes bytes at an offset within the tensor of that name in the output."""
WriteSeveral = Callable[[Sequence[str], Sequence[int], memoryview], None]
"""Writes tensors of these names and sizes, which lie one after the other, whole."""

PLANE_BYTES = DType.F64.bits // 8
"""Bytes of an element in a plane of an exact sum."""
SINGLE_BYTES = DType.F32.bits // 8
"""Bytes of an element of an exact sum that fits one plane of F32."""

CACHED_BYTES = 3 << 19
"""Bytes of all sources and the result in one chunk, so that a chunk stays in a core's cache."""
SMALLEST_CHUNK = 1 << 14
LARGEST_CHUNK = 1 << 18


def chunk_elements(bytes_an_element: int) -> int:
    """The chunk size, in elements, at which all sources and the result fit a core's cache."""
    return max(SMALLEST_CHUNK, min(LARGEST_CHUNK, CACHED_BYTES // bytes_an_element // 4096 * 4096))


def ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each chunk of `size` among `count` elements, in order."""
    for start in range(0, count, size or 1):
        yield start, min(start + size, count)
