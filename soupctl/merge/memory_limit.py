"""How many threads, and chunks of which size, a limit of memory allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..checkpoints.open import STREAM
from ..errors import LimitError
from ..frozen import frozen
from ..storage.files import free_space
from ..workers import ExecutionOptions

SMALL_CHUNKS = (1 << 13, 1 << 12, 1 << 11, 1 << 10, 1 << 9)
"""Elements of the chunks that are tried where not even one thread has room for larger ones."""


@frozen
class MemoryNeed:
    """Bytes of anonymous memory: a fixed part, and a part for each thread."""

    fixed: int
    a_thread: int

    def with_threads(self, threads: int) -> int:
        """All bytes with that many threads."""
        return self.fixed + threads * self.a_thread


@frozen
class FittedMemory:
    """The threads and chunks that a limit on memory allows."""

    threads: int
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    memory: int
    """Bytes that all threads take together."""


NeedOf = Callable[[int | None], MemoryNeed]
"""The need with chunks of that many elements, or with chunks that fit the cache for None."""


def fit_memory(need_of: NeedOf, threads: int | None, most: int | None) -> FittedMemory:
    """As many of `threads` as `most` bytes allow, with small chunks if not even one fits.

    Without `threads`, as many as usual; without `most`, there is no limit. Raises LimitError if one
    thread with the smallest chunk takes more.
    """
    threads = threads or ExecutionOptions().threads
    need = need_of(None)
    if most is None:
        return FittedMemory(threads, None, need.with_threads(threads))
    fitting = min(threads, (most - need.fixed) // need.a_thread)
    if fitting > 0:
        return FittedMemory(fitting, None, need.with_threads(fitting))
    for chunk in SMALL_CHUNKS:
        needed = need_of(chunk).with_threads(1)
        if needed <= most:
            return FittedMemory(1, chunk, needed)
    advice = f"one thread needs {needed} bytes: --max-memory {needed} allows them"
    raise LimitError(f"{most} bytes of memory are not enough", advice=advice)


def free_disk(output: str | Path | None) -> int | None:
    """Free bytes where an output will be; None for standard output, and if unknown."""
    if output is None or output == STREAM:
        return None
    try:
        return free_space(Path(output).parent)
    except OSError:
        return None
