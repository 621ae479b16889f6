"""An output that is being written: all offsets are fixed before the first tensor is written.

Rule 1: space for all files is reserved at once, so a full disk is an error before any work.
Rule 2: only weights files stay open, as far as the limit on open files allows; there may be any
number of files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..format.header import Tensor
from ..storage.atomic import publish_file, publish_folder
from ..storage.files import NewFiles, copy_file, require_room, write_file
from ..storage.stream import publish_stream
from ..storage.written import Writable, WrittenFile
from .destination import Destination
from .overwrite import may_replace_with


class OutputFiles(NewFiles, Protocol):
    """Makes the files of an output, some of which stay open."""

    def in_turn(self, name: str, fd: int, /) -> Writable:
        """The new file `name`, open as `fd` unless there are too many."""


class OutputWriter:
    """The files of an output, with the place of each tensor of each component."""

    def __init__(self, files: OutputFiles) -> None:
        self._files = files
        self._places: dict[tuple[int, str], tuple[Writable, int]] = {}

    def add(self, component: int, name: str, tensors: Sequence[Tensor], header: int) -> Writable:
        """Make one file with room for a header of `header` bytes."""
        fd = self._files.create(name, header + (tensors[-1].stop if tensors else 0))
        file = self._files.in_turn(name, fd)
        for tensor in tensors:
            self._places[component, tensor.name] = (file, header + tensor.start)
        return file

    def write(self, component: int, tensor: str, offset: int, data: memoryview) -> None:
        """Write bytes at an offset within a tensor."""
        file, start = self._places[component, tensor]
        file.write(data, start + offset)

    def write_together(
        self, component: int, tensors: Sequence[str], sizes: Sequence[int], data: memoryview
    ) -> None:
        """Write whole tensors, which lie one after the other in `data`.

        Those that are next to each other in a file are written at once.
        """
        done = begin = end = 0
        last: Writable | None = None
        for tensor, size in zip(tensors, sizes, strict=True):
            file, start = self._places[component, tensor]
            if start != end or file is not last:
                if last is not None:
                    last.write(data[done : done + end - begin], begin)
                done += end - begin
                begin, last = start, file
            end = start + size
        if last is not None:
            last.write(data[done : done + end - begin], begin)

    def add_text(self, name: str, text: bytes) -> None:
        """Make a small file."""
        write_file(self._files, name, text)

    def add_copy(self, name: str, path: Path) -> None:
        """Create a copy of another file."""
        copy_file(self._files, name, path)


class _OneFile:
    """An output of a single file, which is already open."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def create(self, _name: str, _size: int, /) -> int:
        return self._fd

    def finish(self, fd: int, /) -> None:
        os.fsync(fd)

    def in_turn(self, _name: str, fd: int, /) -> WrittenFile:
        return WrittenFile(fd)


class _OneObject:
    """An output of a single object, which has no descriptor."""

    def __init__(self, written: Writable) -> None:
        self._written = written

    def create(self, _name: str, _size: int, /) -> int:
        return -1

    def finish(self, _fd: int, /) -> None:
        pass

    def in_turn(self, _name: str, _fd: int, /) -> Writable:
        return self._written


@contextmanager
def open_output(
    destination: Destination, size: int, *, replace: bool, check: Callable[[], None]
) -> Iterator[OutputWriter]:
    """The output, published whole on a clean exit after `check`; a single file has `size` bytes."""
    if destination.path is None:
        with publish_stream(sys.stdout.fileno(), size, check) as fd:
            yield OutputWriter(_OneFile(fd))
    elif destination.address is not None:
        # imported late, because most soups are written to this disk
        from ..checkpoints.remote.targets import publish_object

        with publish_object(destination.address, size, replace=replace, check=check) as written:
            yield OutputWriter(_OneObject(written))
    elif destination.is_folder:
        may_replace = may_replace_with(destination.path, destination.names)
        with publish_folder(
            destination.path, replace=replace, may_replace=may_replace, check=check
        ) as staging:
            require_room(destination.path, size)
            yield OutputWriter(staging)
    else:
        with publish_file(destination.path, size, replace=replace, check=check) as fd:
            yield OutputWriter(_OneFile(fd))
