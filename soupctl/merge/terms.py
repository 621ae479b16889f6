"""The terms of a weighted sum, read chunk by chunk into memory.

Rule 1: the same bytes are digested and computed with: each is read once, into memory that only this
thread writes to.
Rule 2: all chunks are read, in order.
Rule 3: sparse planes are expanded chunk by chunk, never whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import prod

from ..checkpoints.digest import Row, tensor_hasher
from ..checkpoints.safetensors import StoredTensor
from ..engines.planes import count_before, spread
from ..errors import LedgerError
from ..format.dtypes import DType
from ..format.header import Tensor
from ..workers import Scratch
from .delta.reader import DeltaReader, invalid_delta
from .kept_sum.reader import Source, invalid_sum, stored_terms
from .padding import rows_of, stored_before, stored_runs

SIGN = memoryview(struct.pack("<d", -(2.0**-1074)))
"""The value added to a zero that becomes -0.0, before the division by `SIGN_DIVISOR`.

A nonzero value that rounds to zero keeps its sign in every dtype: a quarter of the smallest F64
is nearer to zero than to that.
"""
SIGN_DIVISOR = 4


class DenseTerm:
    """A tensor with a stored value for each element of the soup's tensor."""

    own_weight: int | None = None
    """Its weight if that is not its source's."""

    def __init__(self, source: Source, stored: StoredTensor) -> None:
        self.source = source
        self.dtype = stored.tensor.dtype
        self._width = self.dtype.bits // 8
        self.element_sizes: tuple[int, ...] = (self._width,)
        """Bytes that an element of a chunk takes in each part of the memory."""
        self._stored = stored
        self._hasher = tensor_hasher()
        self.row = memoryview(b"")
        """The chunk that was read last; longer than it if a longer one was read before."""
        self._read = self.row

    def allot(self, parts: Iterator[memoryview]) -> None:
        """Take the next parts of the memory."""
        self.row = next(parts)

    def read(self, start: int, stop: int) -> int:
        """Read elements `start` to `stop`, and return their bytes; raises as `FileReader` does."""
        self._read = self.row[: (stop - start) * self._width]
        self._stored.read_into(self._read, start * self._width)
        return len(self._read)

    def digest(self) -> None:
        """Digest the chunk that was read last."""
        self._hasher.update(self._read)

    def digests(self) -> list[Row]:
        """The rows of its stored tensors, for the root of its source."""
        return [row_of(self._stored.tensor, self._hasher.hexdigest())]


class PaddedTerm:
    """A tensor with fewer input channels than the soup's, padded with zeros."""

    own_weight: int | None = None
    """Its weight if that is not its source's."""

    def __init__(self, source: Source, stored: StoredTensor, shape: tuple[int, ...]) -> None:
        self.source = source
        self.dtype = stored.tensor.dtype
        self._width = self.dtype.bits // 8
        self.element_sizes: tuple[int, ...] = (self._width, self._width)
        self._stored = stored
        self._rows = rows_of(stored.tensor.shape, shape)
        self._hasher = tensor_hasher()
        self.row = self._memory = self._read = memoryview(b"")

    def allot(self, parts: Iterator[memoryview]) -> None:
        """Take the next parts of the memory."""
        self.row, self._memory = islice(parts, len(self.element_sizes))

    def read(self, start: int, stop: int) -> int:
        """Read elements `start` to `stop`, and return the bytes that were stored of them."""
        first, last = (stored_before(place, self._rows) for place in (start, stop))
        self._read = self._memory[: (last - first) * self._width]
        self._stored.read_into(self._read, first * self._width)
        self.row[: (stop - start) * self._width] = bytes((stop - start) * self._width)
        done = 0
        for place, length in stored_runs(start, stop, self._rows):
            size, at = length * self._width, (place - start) * self._width
            self.row[at : at + size] = self._read[done : done + size]
            done += size
        return len(self._read)

    def digest(self) -> None:
        """Digest what was read last."""
        self._hasher.update(self._read)

    def digests(self) -> list[Row]:
        """The row of its stored tensor, for the root of its source."""
        return [row_of(self._stored.tensor, self._hasher.hexdigest())]


class SparseTerm:
    """A plane of which only nonzero elements are stored: places and values."""

    def __init__(
        self,
        source: Source,
        name: str,
        count: int,
        places: StoredTensor,
        values: StoredTensor | None,
        own_weight: int | None = None,
    ) -> None:
        """Raise LedgerError for more places than the `count` elements of the plane.

        `values` is None for the places of zeros that get a sign: their value is `SIGN`.
        """
        self.source = source
        self.own_weight = own_weight
        self.dtype = DType.F64 if values is None else values.tensor.dtype
        self._value_bytes = self.dtype.bits // 8
        self._name = name
        self._count = count
        self._places, self._values = places, values
        self._index = places.tensor.dtype
        self._width = self._index.bits // 8
        self.element_sizes: tuple[int, ...] = (self._value_bytes, self._width, self._value_bytes)
        self._hashers = tensor_hasher(), tensor_hasher()
        self._done = 0
        """How many of the stored elements were read."""
        self.row = memoryview(b"")
        self._read = self._memory = (self.row, self.row)
        if places.tensor.count > count:
            raise self._out_of_order()

    def allot(self, parts: Iterator[memoryview]) -> None:
        """Take the next parts of the memory."""
        self.row, *memory = islice(parts, len(self.element_sizes))
        self._memory = (memory[0], memory[1])

    def read(self, start: int, stop: int) -> int:
        """Read and expand elements `start` to `stop`, and return the bytes that were stored.

        Raises what `FileReader` raises, and LedgerError for places that are out of order.
        """
        stored = self._places.tensor.count
        # a chunk has at most as many nonzero positions as elements
        places = self._memory[0][: min(stop - start, stored - self._done) * self._width]
        self._places.read_into(places, self._done * self._width)
        try:
            present = count_before(places, self._index, start, stop)
        except ValueError:
            raise self._out_of_order() from None
        width = self._value_bytes
        places, values = places[: present * self._width], self._memory[1][: present * width]
        if self._values is None:
            values = SIGN
        else:
            self._values.read_into(values, self._done * width)
        self._done += present
        if stop == self._count and self._done < stored:
            raise self._out_of_order()
        row = self.row[: (stop - start) * width]
        spread(places, values, self._index, start, row, self.dtype)
        self._read = (places, values)
        return len(places) + len(values)

    def _out_of_order(self) -> LedgerError:
        invalid = invalid_delta if isinstance(self.source, DeltaReader) else invalid_sum
        return invalid(self.source.label, "places are out of order", self._name)

    def digest(self) -> None:
        """Digest what was read last."""
        for hasher, data in zip(self._hashers, self._read, strict=True):
            hasher.update(data)

    def digests(self) -> list[Row]:
        """The rows of its stored tensors, for the root of its source."""
        pairs = zip((self._places, self._values), self._hashers, strict=True)
        return [
            row_of(stored.tensor, hasher.hexdigest())
            for stored, hasher in pairs
            if stored is not None
        ]


Term = DenseTerm | PaddedTerm | SparseTerm


def terms_of(source: Source, name: str, shape: tuple[int, ...]) -> list[Term]:
    """The terms of a source in the sum of a tensor of that shape.

    Raises LedgerError for a malformed sum.
    """
    stored = stored_terms(source, name)
    dense = [
        DenseTerm(source, each) if each.tensor.shape == shape else PaddedTerm(source, each, shape)
        for each in stored.dense
    ]
    count = prod(shape)
    sparse = [SparseTerm(source, name, count, *each) for each in stored.sparse]
    if stored.negative_zeros is not None:
        counts = isinstance(source, DeltaReader) and source.gives_fine
        sparse.append(
            SparseTerm(source, name, count, stored.negative_zeros, None, 1 if counts else 0)
        )
    return [*dense, *sparse]


def bytes_an_element(terms: Iterable[Term]) -> int:
    """The memory that an element of a chunk takes in all terms together."""
    return sum(sum(term.element_sizes) for term in terms)


def allot(scratch: Scratch, terms: Sequence[Term], chunk: int, *widths: int) -> list[memoryview]:
    """Give each term memory for chunks of `chunk` elements; returns parts of other widths."""
    sizes = [size for term in terms for size in term.element_sizes]
    parts = iter(scratch.parts(*(chunk * width for width in (*sizes, *widths))))
    for term in terms:
        term.allot(parts)
    return list(parts)


def row_of(tensor: Tensor, digest: str) -> Row:
    """The row of a tensor for the root of its file."""
    return tensor.name, tensor.dtype.value, tensor.shape, digest
