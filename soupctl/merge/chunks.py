"""How much is read at a time: chunks that stay in a core's cache, small tensors together.

Rule 1: nothing here can change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..format.dtypes import DType

Item = TypeVar("Item")

Write = Callable[[str, int, memoryview], None]
"""Puts bytes at an offset within the tensor of that name in the output."""

PLANE_BYTES = DType.F64.bits // 8
"""Bytes of an element in a plane of an exact sum."""
SINGLE_BYTES = DType.F32.bits // 8
"""Bytes of an element of an exact sum that fits one plane of F32."""

CACHED_BYTES = 3 << 19
"""Bytes of all sources and the result in one chunk, so that a chunk stays in a core's cache."""
SMALLEST_CHUNK = 1 << 14
LARGEST_CHUNK = 1 << 18
TASK_BYTES = 1 << 20
"""Small tensors are handed to a thread together, about this many bytes at a time."""
MOST_TENSORS = 256
"""Tensors in one task, however small they are."""


def chunk_elements(bytes_an_element: int) -> int:
    """The chunk size, in elements, at which all sources and the result fit a core's cache."""
    return max(SMALLEST_CHUNK, min(LARGEST_CHUNK, CACHED_BYTES // bytes_an_element // 4096 * 4096))


def ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each chunk of `size` among `count` elements, in order."""
    for start in range(0, count, size or 1):
        yield start, min(start + size, count)


def pieces(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The bytes of a view with their offsets, in pieces that fit the cache."""
    for start in range(0, len(view), TASK_BYTES):
        yield start, view[start : start + TASK_BYTES]


def tasks(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """The items in order, small ones together; `size` is the bytes that an item reads."""
    task: list[Item] = []
    total = 0
    for item in items:
        task.append(item)
        total += size(item)
        if total >= TASK_BYTES or len(task) >= MOST_TENSORS:
            yield task
            task, total = [], 0
    if task:
        yield task
