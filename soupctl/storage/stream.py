"""Binary output to a stream: spooled whole, so that a failed command writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import OutputError
from .atomic import nothing
from .files import pieces
from .partial import preallocate


@contextmanager
def publish_stream(fd: int, size: int, check: Callable[[], None] = nothing) -> Iterator[int]:
    """Yield a descriptor of `size` bytes whose contents go to `fd` on a clean exit.

    Raises OutputError if `fd` is a terminal or the temporary folder has no room; BrokenPipeError if
    the reader goes away.
    """
    if os.isatty(fd):
        raise OutputError(
            "is a terminal", path="standard output", advice="redirect it, or name a file"
        )
    # imported late, because most commands write no stream
    import tempfile  # noqa: PLC0415

    folder = tempfile.gettempdir()
    with tempfile.TemporaryFile(dir=folder) as spool:
        preallocate(spool.fileno(), size, folder)
        yield spool.fileno()
        check()
        for piece in pieces(spool.fileno(), size, folder):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(fd, rest) :]
