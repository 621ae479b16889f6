"""An output that is being written: every tensor has its place before the first byte of one comes.

Rule 1: all files get their space at once, so a disk that is too small refuses before any work.
Rule 2: only weights files stay open; of small files and copies there may be any number.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError
from ..format.header import Tensor
from ..storage.atomic import publish_file, publish_folder, write_at
from ..storage.regular import open_regular, read_at
from ..storage.stream import publish_stream
from .destination import Destination
from .overwrite import soups_only

COPY_BYTES = 1 << 20


class Sink:
    """Files of an output, and where in them each tensor of each component goes."""

    def __init__(self, create: Callable[[str, int], int], finish: Callable[[int], None]) -> None:
        self._create = create
        self._finish = finish
        self._places: dict[tuple[int, str], tuple[int, int]] = {}

    def add(self, component: int, name: str, tensors: Sequence[Tensor], header: int) -> int:
        """Make one file with room for a header of `header` bytes; its descriptor."""
        fd = self._create(name, header + (tensors[-1].stop if tensors else 0))
        for tensor in tensors:
            self._places[component, tensor.name] = (fd, header + tensor.start)
        return fd

    def write(self, component: int, tensor: str, offset: int, data: memoryview) -> None:
        """Put bytes at an offset within a tensor."""
        fd, start = self._places[component, tensor]
        write_at(fd, data, start + offset)

    def write_header(self, fd: int, header: bytes) -> None:
        """Put a header before the data of a file."""
        write_at(fd, header, 0)

    def add_text(self, name: str, text: bytes) -> None:
        """Make a small file."""
        fd = self._create(name, len(text))
        write_at(fd, text, 0)
        self._finish(fd)

    def add_copy(self, name: str, path: Path) -> None:
        """Make a file with the bytes of another."""
        with open_regular(path, str(path)) as (source, state):
            fd = self._create(name, state.st_size)
            for offset in range(0, state.st_size, COPY_BYTES):
                size = min(COPY_BYTES, state.st_size - offset)
                piece = read_at(source, size, offset)
                if len(piece) < size:
                    raise OutputError("changed while it was read", path=path)
                write_at(fd, piece, offset)
            self._finish(fd)


@contextmanager
def open_sink(
    destination: Destination, size: int, *, replace: bool, check: Callable[[], None]
) -> Iterator[Sink]:
    """The output, published whole on a clean exit after `check`; a single file has `size` bytes."""
    if destination.path is None:
        with publish_stream(sys.stdout.fileno(), size, check) as fd:
            yield Sink(lambda name, size: fd, os.fsync)
    elif destination.is_folder:
        may_replace = soups_only(destination.path, destination.names)
        with publish_folder(
            destination.path, replace=replace, may_replace=may_replace, check=check
        ) as staging:
            _require_room(destination.path, size)
            yield Sink(staging.create, staging.finish)
    else:
        with publish_file(destination.path, size, replace=replace, check=check) as fd:
            yield Sink(lambda name, size: fd, os.fsync)


def _require_room(target: Path, size: int) -> None:
    """Raise OutputError if the disk cannot hold all files of a folder together."""
    state = os.statvfs(target.parent)
    free = state.f_bavail * state.f_frsize
    if size > free:
        raise OutputError(f"needs {size} bytes of disk, of which {free} are free", path=target)
