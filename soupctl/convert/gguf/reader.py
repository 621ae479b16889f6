"""A GGUF file, open as a checkpoint.

Rule 1: plain tensors are ranges of the file; Q8_0 tensors are the float32 values that they stand
for, computed whenever a part of them is read, so that memory does not grow with the file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.layout import Component
from ...checkpoints.safetensors import SafetensorsFile
from ...errors import InputError
from ...format.dtypes import DType
from ...format.gguf import (
    ALIGNMENT,
    BLOCK,
    BLOCK_BYTES,
    MAGIC,
    MAX_HEADER,
    Q8_0,
    TYPES,
    GgufHeader,
    GgufTensor,
    TooShort,
    parse_gguf,
)
from ...format.header import Header, Tensor
from ...ledger.ledger import LEDGER_KEY
from ...storage.reader import FileReader
from ...storage.regular import open_regular, read_at

FIRST_READ = 1 << 18
WIDTH = DType.F32.bits // 8


def is_gguf(path: Path) -> bool:
    """Whether a regular file begins as GGUF does; False for what cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class GgufReader(FileReader):
    """Reads a file and, beyond its end, the values of its Q8_0 tensors."""

    blocks: Sequence[tuple[int, int]] = ()
    """For each Q8_0 tensor, in order: where its values begin, and where its blocks do."""

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the bytes at `offset`; raises what `FileReader` raises."""
        if offset < self.identity.size:
            super().read_into(buffer, offset)
            return
        place = bisect_right(self.blocks, (offset, self.identity.size)) - 1
        values_at, blocks_at = self.blocks[place]
        first = (offset - values_at) // WIDTH
        stop = first + len(buffer) // WIDTH
        self._decode(buffer, blocks_at, first, stop)

    def _decode(self, buffer: memoryview, blocks_at: int, first: int, stop: int) -> None:
        """Fill `buffer` with the values from `first` to before `stop` of a tensor."""
        import numpy as np

        from .blocks import values_of

        begin, end = first // BLOCK, -(-stop // BLOCK)
        raw = memoryview(bytearray((end - begin) * BLOCK_BYTES))
        super().read_into(raw, blocks_at + begin * BLOCK_BYTES)
        values = values_of(raw)[first - begin * BLOCK : stop - begin * BLOCK]
        np.frombuffer(buffer, "<f4")[:] = values


@contextmanager
def open_gguf(path: Path, label: str) -> Iterator[Checkpoint]:
    """The tensors of a GGUF file under the names that it has.

    Raises InputError for a malformed file, and MismatchError for quantisations that are not read.
    """
    with ExitStack() as stack:
        fd, state = stack.enter_context(open_regular(path, label))
        header = _header(fd, state.st_size, label)
        reader = GgufReader.of_open(fd, path, label)
        tensors, reader.blocks = _placed(header, state.st_size)
        # a ledger is of tensors in safetensors files
        texts = {key: text for key, text in header.metadata.items() if key != LEDGER_KEY}
        whole = Header(tensors, texts, 0)
        file = SafetensorsFile(path, label, whole, reader.identity, reader)
        yield stack.enter_context(Checkpoint(Component("", label, (path,)), (file,)))


def _header(fd: int, file_size: int, label: str) -> GgufHeader:
    size = min(FIRST_READ, file_size)
    while True:
        try:
            return parse_gguf(read_at(fd, size, 0), file_size, label)
        except TooShort:
            if size == file_size:
                what = "ends within its header"
                raise InputError(what, path=label, advice="download or copy it again") from None
            if size >= MAX_HEADER:
                what = f"claims a header of more than {MAX_HEADER} bytes"
                raise InputError(what, path=label) from None
            size = min(8 * size, file_size, MAX_HEADER)


def _placed(
    header: GgufHeader, file_size: int
) -> tuple[tuple[Tensor, ...], Sequence[tuple[int, int]]]:
    """The tensors with places in the file or, for Q8_0, beyond its end, and where blocks begin."""
    tensors, blocks = [], []
    end = file_size + -file_size % ALIGNMENT
    for each in header.tensors:
        at = header.data_start + each.start
        if each.type == Q8_0:
            blocks.append((end, at))
            tensors.append(_tensor(each, DType.F32, end))
            end = tensors[-1].stop
        else:
            tensors.append(_tensor(each, TYPES[each.type], at))
    return tuple(tensors), blocks


def _tensor(each: GgufTensor, dtype: DType, start: int) -> Tensor:
    return Tensor(each.name, dtype, each.shape, start, start + each.count * dtype.bits // 8)
