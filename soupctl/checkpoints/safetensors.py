"""Safetensors files on disk: opened, validated and read in parts.

Rule 1: only regular files are opened, and opening never waits; the one stream is spooled first.
Rule 2: the header is validated in full before a byte of the data is looked at.
Rule 3: a file that changes while it is used is an error, never a wrong result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from ..errors import InputError, OutputError
from ..format.header import Header, Tensor, header_size, parse_header
from ..format.magic import recognise
from ..frozen import frozen
from ..storage.elsewhere import FileElsewhere, elsewhere
from ..storage.files import write_at
from ..storage.partial import preallocate
from ..storage.place import refusing
from ..storage.reader import FileReader
from ..storage.regular import open_regular, read_at, reading
from ..workers import Scratch

if TYPE_CHECKING:
    from .remote.read_ahead import ReadOrder

# enough to recognise other formats; less than the shortest header with a tensor
FOREIGN = 64
SPOOL_CHUNK = 1 << 20
PIECE = 1 << 19
FIRST_BYTES = 16 << 10
"""Bytes of a file on a server that are read at first; most headers take more, and a second read."""


class Reader(Protocol):
    """Reads parts of a file, from several threads at once."""

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the bytes at `offset`; the errors of `FileReader`."""

    def close(self) -> None:
        """Close the file; no read may be in progress."""


class Identity(Protocol):
    """Identifies a file and its version."""

    def is_at(self, path: Path, /) -> bool:
        """Whether the path still leads to this file, unchanged."""

    def __hash__(self) -> int: ...


@frozen
class StoredTensor:
    """A tensor of an open file, whose bytes are read in parts."""

    tensor: Tensor
    reader: Reader
    start: int
    """Where its bytes begin in the file."""

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with its bytes from `offset` on; raises what `FileReader` raises."""
        self.reader.read_into(buffer, self.start + offset)

    def pieces(self, scratch: Scratch) -> Iterator[tuple[int, memoryview]]:
        """Its bytes with their offsets, in pieces that fit the cache; each replaces the last."""
        size = self.tensor.size
        (buffer,) = scratch.parts(min(PIECE, size))
        for start in range(0, size, PIECE):
            piece = buffer[: min(PIECE, size - start)]
            self.read_into(piece, start)
            yield start, piece

    def read(self) -> bytearray:
        """All its bytes; raises what `FileReader` raises."""
        data = bytearray(self.tensor.size)
        if data:
            self.read_into(memoryview(data), 0)
        return data


class SafetensorsFile:
    """A validated file, whose tensors can be read until it is closed."""

    def __init__(
        self,
        path: Path,
        label: str,
        header: Header,
        identity: Identity | None,
        reader: Reader,
    ) -> None:
        self.path = path
        self.label = label
        """The name of the file in messages."""
        self.header = header
        self.identity = identity
        """None for a spooled stream, which no other process can reach by name."""
        self._reader = reader

    def stored(self, tensor: Tensor) -> StoredTensor:
        """A tensor of this file, to be read."""
        return StoredTensor(tensor, self._reader, self.header.data_start + tensor.start)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill `buffer` with data from byte `start` of it on; raises what `FileReader` raises."""
        self._reader.read_into(buffer, self.header.data_start + start)

    def require_unchanged(self) -> None:
        """Raise OutputError if the path leads to another file, or to one written to since."""
        if self.identity is not None and not self.identity.is_at(self.path):
            raise OutputError("changed while it was read", path=self.label)

    def close(self) -> None:
        """Close the file; nothing can be read any more."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_safetensors(
    path: Path, label: str | None = None, order: ReadOrder | None = None
) -> SafetensorsFile:
    """The file at `path`, validated; of its data nothing is read yet.

    Messages call the file `label`, its path by default. Files on servers that are read together
    share an `order`. Raises InputError if the file is unreadable or malformed.
    """
    label = str(path) if label is None else label
    if (remote := elsewhere(path)) is not None:
        return _opened_elsewhere(remote, path, order)
    with open_regular(path, label) as (fd, state):
        header = _read_header(fd, state.st_size, label)
        reader = FileReader.of_open(fd, path, label)
        return SafetensorsFile(path, label, header, reader.identity, reader)


def _opened_elsewhere(file: FileElsewhere, path: Path, order: ReadOrder | None) -> SafetensorsFile:
    """A file on a server, its header read and validated."""
    # imported late, because most files are on disk
    from .remote.read_ahead import RangeReader, Version  # noqa: PLC0415

    label, size = file.address, file.size
    first = bytes(file.read(0, min(size, FIRST_BYTES))) if size else b""
    try:
        length = header_size(first[:8], size, label)
        rest = file.read(len(first), length) if length > len(first) else b""
        raw = first[:length] + bytes(rest)
        header = parse_header(raw, size, label)
    except InputError:
        _refuse_foreign(first[:FOREIGN], label)
        raise
    begin = header.data_start
    spans = {each.name: (begin + each.start, begin + each.stop) for each in header.tensors}
    reader = RangeReader(file, spans, order, first if len(first) > begin else b"")
    return SafetensorsFile(path, label, header, Version(file), reader)


def read_header(path: Path, label: str | None = None) -> Header:
    """The validated header of the file at `path`; InputError if it is unreadable or malformed."""
    with open_safetensors(path, label) as file:
        return file.header


def _read_header(fd: int, file_size: int, label: str) -> Header:
    try:
        size = header_size(read_at(fd, 8, 0), file_size, label)
        raw = read_at(fd, size, 0)
        try:
            return _parse_like_the_last(raw, file_size)
        except InputError:
            # parsed again, so that the error names this file
            return parse_header(raw, file_size, label)
    except InputError:
        _refuse_foreign(read_at(fd, FOREIGN, 0), label)
        raise


@lru_cache(maxsize=1)
def _parse_like_the_last(raw: bytes, file_size: int) -> Header:
    """The parsed header; cached, because fine-tunes of one base mostly have the same header."""
    return parse_header(raw, file_size, "")


def _refuse_foreign(first: bytes, label: str) -> None:
    """Raise a more specific InputError if the first bytes show another file format."""
    if known := recognise(first):
        what, advice = known
        raise InputError(what, path=label, advice=advice) from None


def spool_stream(
    fd: int, label: str = "standard input", folder: Path | None = None
) -> SafetensorsFile:
    """The safetensors file that `fd` streams, copied to an unnamed file and validated.

    The file is in `folder`, by default the temporary folder ($TMPDIR). No more is read than the
    header describes, so that an endless stream does not fill the disk. Raises InputError if the
    stream is malformed, OutputError if the folder has no room for it.
    """
    # imported late, because most commands read no stream
    import tempfile  # noqa: PLC0415

    with refusing(Path("the temporary folder")):
        folder = folder or Path(tempfile.gettempdir())
    with reading(label):
        first = _read_exactly(fd, 8)
    try:
        size = header_size(first, None, label)
        with reading(label):
            raw = first + _read_exactly(fd, size - 8)
        if len(raw) < size:
            raise InputError(f"ends within its header of {size} bytes", path=label)
        header = parse_header(raw, None, label)
    except InputError:
        _refuse_foreign(first, label)
        raise
    with refusing(folder), tempfile.TemporaryFile(dir=folder) as spool:
        preallocate(spool.fileno(), header.file_size, folder)
        write_at(spool.fileno(), raw, 0)
        _copy(fd, spool.fileno(), len(raw), header.file_size, label)
        reader = FileReader.of_unnamed(os.dup(spool.fileno()), label)
    return SafetensorsFile(Path("-"), label, header, None, reader)


def _copy(source: int, spool: int, offset: int, size: int, label: str) -> None:
    """Copy the rest of a stream, which must end at exactly `size` bytes."""
    while offset < size:
        with reading(label):
            part = os.read(source, min(SPOOL_CHUNK, size - offset))
        if not part:
            raise InputError(f"ends after {offset} of {size} bytes", path=label)
        write_at(spool, part, offset)
        offset += len(part)
    with reading(label):
        rest = os.read(source, 1)
    if rest:
        problem = f"has more data than the {size} bytes that its header describes"
        raise InputError(problem, path=label)


def _read_exactly(fd: int, size: int) -> bytes:
    """The next `size` bytes of a stream; fewer at its end."""
    parts = []
    while size and (part := os.read(fd, min(SPOOL_CHUNK, size))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
