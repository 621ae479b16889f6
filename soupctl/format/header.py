"""The safetensors header as a value.

Rule 1: bytes in, values out; nothing in this file opens, seeks or maps.
Rule 2: `parse_header` checks everything, so no later code has to ask whether tensors overlap,
leave holes, fall outside the file or disagree with their shapes.
Rule 3: a file is accepted exactly if the safetensors library loads it, except that no name may
occur twice.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from math import prod
from operator import attrgetter
from typing import Any

from ..errors import InputError, LimitError
from ..frozen import frozen
from ..pattern import pattern
from .dtypes import DType
from .strict_json import decode, members

MAX_HEADER = 100_000_000
METADATA = "__metadata__"
# sizes and offsets are unsigned 64-bit integers in the library
LIMIT = 2**64
# the library lays tensors out by this order, descending, and then by name
DTYPE_RANK = {dtype: rank for rank, dtype in enumerate(DType)}
DTYPE_NAMES = {dtype.value: dtype for dtype in DType}

_NUMBER = "(?:0|[1-9][0-9]{0,17})"
USUAL = pattern(
    r'"([^"\\\x00-\x1f]*)": ?\{"dtype": ?"([A-Z0-9_]+)", ?'
    rf'"shape": ?\[((?:{_NUMBER}(?:, ?{_NUMBER})*)?)\], ?'
    rf'"data_offsets": ?\[({_NUMBER}), ?({_NUMBER})\]\}},[ \t\n\r]*'
)
"""An entry before another as libraries write it, without escapes, and numbers that fit 64 bits."""


@frozen
class Tensor:
    """One entry of a header: `start` and `stop` are byte offsets in the data section."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes of data."""
        return self.stop - self.start

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@frozen
class Header:
    """A whole header; `tensors` are in the order of their data, which begins at `data_start`."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    data_start: int

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return self.data_start + (self.tensors[-1].stop if self.tensors else 0)


def header_size(first: bytes, file_size: int | None, path: str) -> int:
    """Bytes before the data, from the first 8 bytes of a file; InputError if out of range.

    A `file_size` of None stands for a stream, whose end is not known yet.
    """
    if not first:
        raise InputError("is empty", path=path)
    if len(first) < 8:
        raise InputError(f"has {len(first)} bytes, too few for a safetensors file", path=path)
    length = int.from_bytes(first[:8], "little")
    if length > MAX_HEADER:
        problem = f"claims a header of {length} bytes; safetensors allows {MAX_HEADER}"
        raise InputError(problem, path=path)
    if file_size is not None and 8 + length > file_size:
        problem = f"claims a header of {length} bytes, but the whole file has {file_size}"
        raise InputError(
            problem, path=path, advice="the file may be cut off: download or copy it again"
        )
    return 8 + length


def parse_header(raw: bytes, file_size: int | None, path: str) -> Header:
    """The header in `raw`, the first `header_size` bytes of a file; InputError if it is not valid.

    The rules are those of `Metadata::validate` and `SafeTensors::read_metadata` in the safetensors
    library, and that no name occurs twice. A `file_size` of None stands for a stream.
    """
    metadata: Mapping[str, str] = {}
    tensors = []
    try:
        for name, entry in members(decode(raw[8:]), _usual_entries):
            if isinstance(entry, Tensor):
                tensors.append(entry)
            elif name == METADATA:
                metadata = _metadata(entry, path)
            else:
                tensors.append(_tensor(name, entry, path))
    except ValueError as error:
        raise InputError(f"its header is not valid: {error}", path=path) from None
    # empty tensors may share an offset, so the name decides
    tensors.sort(key=attrgetter("start", "stop", "name"))
    _require_contiguous(tensors, path)
    header = Header(tuple(tensors), metadata, len(raw))
    if file_size is not None and header.file_size != file_size:
        problem = f"has {file_size} bytes, but its header describes {header.file_size}"
        advice = (
            "the file may be cut off: download or copy it again"
            if file_size < header.file_size
            else "something follows the data"
        )
        raise InputError(problem, path=path, advice=advice)
    return header


def _usual_entries(text: str, position: int) -> Iterator[tuple[str, Tensor, int]]:
    """The entries from a position on that are written as libraries do, each with its end.

    They are the same as of the general way, and take an eighth of the time.
    """
    while found := USUAL.match(text, position):
        name, dtype, shape, start, stop = found.groups()
        known = DTYPE_NAMES.get(dtype)
        if known is None or name == METADATA:
            return
        position = found.end()
        yield name, Tensor(name, known, _sizes(shape), int(start), int(stop)), position


@lru_cache(maxsize=4096)
def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


def _metadata(entry: object, path: str) -> Mapping[str, str]:
    if entry is None:
        return {}
    if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
        raise InputError(f"{METADATA} must be an object of strings", path=path)
    return entry


def _tensor(name: str, entry: object, path: str) -> Tensor:
    dtype, shape, offsets = _fields(name, entry, path)
    # serde, used by the library, accepts {"F32": null} for "F32"
    if isinstance(dtype, dict) and list(dtype.values()) == [None]:
        (dtype,) = dtype
    known = DTYPE_NAMES.get(dtype) if isinstance(dtype, str) else None
    if known is None:
        raise InputError(f"has unknown dtype {reprlib.repr(dtype)}", path=path, tensor=name)
    if not _unsigned(shape):
        problem = f"shape {reprlib.repr(shape)} is not a list of sizes"
        raise InputError(problem, path=path, tensor=name)
    if not _unsigned(offsets) or len(offsets) != 2:
        problem = f"data_offsets {reprlib.repr(offsets)} are not two offsets"
        raise InputError(problem, path=path, tensor=name)
    return Tensor(name, known, tuple(shape), offsets[0], offsets[1])


def _fields(name: str, entry: object, path: str) -> tuple[Any, Any, Any]:
    if isinstance(entry, dict):
        return entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    # the library also accepts the three values as a list
    if isinstance(entry, list) and len(entry) == 3:
        return entry[0], entry[1], entry[2]
    problem = f"{reprlib.repr(entry)} is not a dtype, a shape and data_offsets"
    raise InputError(problem, path=path, tensor=name)


def _unsigned(values: object) -> bool:
    # by exact type, since True is an int and 2.0 equals one
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < LIMIT for value in values
    )


def _require_contiguous(tensors: Iterable[Tensor], path: str) -> None:
    """Refuse holes, overlaps, reversed offsets, and sizes that the shapes do not have."""
    end = 0
    for tensor in tensors:
        if tensor.start != end or tensor.stop < tensor.start:
            offsets = f"[{tensor.start}, {tensor.stop}]"
            problem = f"data_offsets {offsets} do not begin at {end}, where the data before ends"
            raise InputError(problem, path=path, tensor=tensor.name)
        bits = bits_of(tensor.shape, tensor.dtype)
        if bits is None:
            problem = f"the size of shape {reprlib.repr(tensor.shape)} does not fit in 64 bits"
            raise InputError(problem, path=path, tensor=tensor.name)
        if bits != (tensor.stop - end) * 8:
            shape = f"{tensor.dtype.value} {reprlib.repr(list(tensor.shape))}"
            problem = f"has {tensor.size} bytes of data, but {shape} takes {bits} bits"
            raise InputError(problem, path=path, tensor=tensor.name)
        end = tensor.stop


@lru_cache(maxsize=4096)
def bits_of(shape: tuple[int, ...], dtype: DType) -> int | None:
    """Bits of data by dtype and shape; None if a product overflows 64 bits."""
    total = 1
    for factor in (*shape, dtype.bits):
        total *= factor
        if total >= LIMIT:
            return None
    return total


def lay_out(entries: Iterable[tuple[str, DType, tuple[int, ...]]]) -> tuple[Tensor, ...]:
    """Tensors of these names, dtypes and shapes, in the safetensors library's order, from offset 0.

    A tensor takes whole bytes; sub-byte dtypes need shapes that fill them.
    """
    tensors = []
    end = 0
    for name, dtype, shape in sorted(entries, key=lambda entry: (-DTYPE_RANK[entry[1]], entry[0])):
        start, end = end, end + prod(shape) * dtype.bits // 8
        tensors.append(Tensor(name, dtype, shape, start, end))
    return tuple(tensors)


def encode_header(
    tensors: Sequence[Tensor], metadata: Mapping[str, str], size: int | None = None
) -> bytes:
    """The bytes before the data: length and JSON, filled with spaces to `size` bytes in all.

    Without `size`, to the next multiple of 8. LimitError beyond what safetensors allows.
    """
    text = "{" + ",".join(_members(tensors, metadata)) + "}"
    raw = text.encode("utf-8")
    total = 8 + len(raw)
    total = total + -total % 8 if size is None else size
    if total < 8 + len(raw):
        raise ValueError(f"a header of {8 + len(raw)} bytes does not fit in {total}")
    if total - 8 > MAX_HEADER:
        problem = f"the header would take {total - 8} bytes; safetensors allows {MAX_HEADER}"
        raise LimitError(problem)
    return (total - 8).to_bytes(8, "little") + raw.ljust(total - 8, b" ")


def _members(tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> Iterator[str]:
    if metadata:
        encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        yield f'"{METADATA}":{encode(dict(sorted(metadata.items())))}'
    # the same text as that of an encoder, which takes five times as long
    for tensor in tensors:
        sizes = ",".join(map(str, tensor.shape))
        yield (
            f'{quoted(tensor.name)}:{{"dtype":"{tensor.dtype.value}","shape":[{sizes}],'
            f'"data_offsets":[{tensor.start},{tensor.stop}]}}'
        )
