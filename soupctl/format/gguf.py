"""The header of a GGUF file as a value: what llama.cpp and ComfyUI-GGUF read.

Source: the specification of GGUF in the repository of ggml (docs/gguf.md). Numbers are
little-endian; the sizes of a tensor are listed from the last one to the first.

Rule 1: bytes in, values out; nothing in this file opens, seeks or maps.
Rule 2: `parse_gguf` checks everything: no tensor overlaps another or leaves the file.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod

from ..errors import InputError, LimitError, MismatchError, shortened
from ..frozen import frozen
from .dtypes import DType
from .header import METADATA, bits_of

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
MAX_HEADER = 100_000_000
MOST_DIMS = 4
LONGEST_NAME = 127
"""Bytes of the longest name that ComfyUI-GGUF reads; llama.cpp reads 63."""
BLOCK = 32
"""Elements of a Q8_0 block."""
BLOCK_BYTES = 34
"""A scale of float16, and one signed byte for each element."""
Q8_0 = 8
TYPES: Mapping[int, DType] = {
    0: DType.F32,
    1: DType.F16,
    24: DType.I8,
    25: DType.I16,
    26: DType.I32,
    27: DType.I64,
    28: DType.F64,
    30: DType.BF16,
}
"""The types of plain tensors."""
NUMBERS = {dtype: number for number, dtype in TYPES.items()}
_NAMES = (
    "Q4_0 Q4_1 Q5_0 Q5_1 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL"
    " IQ3_S IQ2_S IQ4_XS IQ1_M TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0"
)
_NUMBERS = (2, 3, 6, 7, *range(9, 24), 29, 34, 35, 39, 40, 41)
OTHERS: Mapping[int, str] = dict(zip(_NUMBERS, _NAMES.split(), strict=True))
"""Other quantisations, by name."""
UINT32, INT32, STRING, ARRAY = 4, 5, 8, 9
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value of each type but texts and arrays."""
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
"""Prefix of the keys in which ComfyUI-GGUF keeps the shape of a tensor that it reshaped."""
ARCHITECTURE = "general.architecture"


@frozen
class GgufTensor:
    """One entry of a header: `start` and `stop` are byte offsets from where the data begins."""

    name: str
    type: int
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def type_name(self) -> str:
        """The name of its type."""
        return "Q8_0" if self.type == Q8_0 else TYPES[self.type].value

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@frozen
class GgufHeader:
    """A whole header: its tensors in the order of their data, and the metadata that is text."""

    tensors: tuple[GgufTensor, ...]
    metadata: Mapping[str, str]
    data_start: int


class TooShort(Exception):
    """The header goes on beyond the bytes that were given."""


def size_of(type_number: int, count: int) -> int:
    """Bytes of the elements of a tensor of a type that is read."""
    if type_number == Q8_0:
        return count // BLOCK * BLOCK_BYTES
    return count * TYPES[type_number].bits // 8


class _Cursor:
    """Reads numbers and texts from the beginning of a file."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.place = 0

    def take(self, size: int) -> bytes:
        self.place += size
        if self.place > len(self._raw):
            raise TooShort
        return self._raw[self.place - size : self.place]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def text(self) -> str:
        return self.take(self.number(8)).decode("utf-8")


def parse_gguf(raw: bytes, file_size: int, path: str) -> GgufHeader:
    """The header that `raw`, the first bytes of a file, begins with.

    Raises TooShort if more bytes are needed, and InputError if it is not valid.
    """
    cursor = _Cursor(raw)
    if cursor.take(4) != MAGIC:
        raise InputError("is not a GGUF file", path=path)
    version = cursor.number(4)
    if version not in VERSIONS:
        what = f"is a GGUF file of version {version}; 2 and 3 are read"
        raise InputError(what, path=path, advice="make it again with a newer program")
    tensors, entries = cursor.number(8), cursor.number(8)
    if max(tensors, entries) > file_size:
        what = f"claims {tensors} tensors and {entries} entries of metadata"
        raise InputError(what, path=path, advice="download or copy it again")
    try:
        values = _values(cursor, entries)
        infos = [_info(cursor) for _ in range(tensors)]
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"its header is not valid: {error}", path=path) from None
    alignment = values.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        what = f"its alignment of {reprlib.repr(alignment)} is not a power of two"
        raise InputError(what, path=path)
    start = cursor.place + -cursor.place % alignment
    made = [_tensor(info, values, file_size - start, path) for info in infos]
    made.sort(key=lambda each: (each.start, each.stop, each.name))
    _require_apart(made, path)
    texts = {key: value for key, value in values.items() if isinstance(value, str)}
    return GgufHeader(tuple(made), texts, start)


Value = str | int | tuple[int, ...] | None
Info = tuple[str, tuple[int, ...], int, int]
"""Name, shape, type and offset of a tensor."""


def _values(cursor: _Cursor, count: int) -> dict[str, Value]:
    """The metadata; of arrays only those that are short lists of whole numbers."""
    found: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.text()
        if key in found:
            raise ValueError(f"it has {shortened(key)!r} twice")
        found[key] = _value(cursor, cursor.number(4))
    return found


def _value(cursor: _Cursor, kind: int) -> Value:
    if kind == STRING:
        return cursor.text()
    if kind == ARRAY:
        return _array(cursor)
    if kind not in WIDTHS:
        raise ValueError(f"a value has the unknown type {kind}")
    number = cursor.number(WIDTHS[kind])
    return number if kind == UINT32 else None


def _array(cursor: _Cursor) -> tuple[int, ...] | None:
    kind, count = cursor.number(4), cursor.number(8)
    if kind == STRING:
        for _ in range(count):
            cursor.take(cursor.number(8))
        return None
    if kind not in WIDTHS:
        raise ValueError(f"an array has elements of the type {kind}")
    data = cursor.take(count * WIDTHS[kind])
    if kind == INT32 and count <= MOST_DIMS + 4:
        return struct.unpack(f"<{count}i", data)
    return None


def _info(cursor: _Cursor) -> Info:
    name, dims = cursor.text(), cursor.number(4)
    if name == METADATA:
        raise ValueError(f"{name} is not a name that a tensor can have")
    if dims > MOST_DIMS:
        raise ValueError(f"{shortened(name)!r} has {dims} dimensions, and GGUF allows {MOST_DIMS}")
    sizes = [cursor.number(8) for _ in range(dims)]
    return name, tuple(reversed(sizes)), cursor.number(4), cursor.number(8)


def _tensor(info: Info, values: Mapping[str, Value], room: int, path: str) -> GgufTensor:
    name, shape, kind, offset = info
    if kind in OTHERS:
        what = f"is quantised as {OTHERS[kind]}; F32, F16, BF16 and Q8_0 are read"
        raise MismatchError(what, path=path, tensor=name, advice="take a Q8_0 or F16 file of it")
    if kind != Q8_0 and kind not in TYPES:
        raise InputError(f"has the unknown type {kind}", path=path, tensor=name)
    if kind == Q8_0 and (not shape or shape[-1] % BLOCK):
        what = f"has shape {list(shape)}, and Q8_0 needs rows of whole blocks of {BLOCK}"
        raise InputError(what, path=path, tensor=name)
    stop = offset + size_of(kind, prod(shape))
    if stop > room:
        what = "lies beyond the end of the file"
        raise InputError(what, path=path, tensor=name, advice="download or copy it again")
    original = values.get(ORIGINAL_SHAPE + name)
    if isinstance(original, tuple):
        if min(original, default=1) < 0 or prod(original) != prod(shape):
            what = f"has shape {list(shape)}, and {list(original)} in the metadata"
            raise InputError(what, path=path, tensor=name)
        shape = original
    if bits_of(shape, TYPES.get(kind, DType.F32)) is None:
        what = f"the size of shape {list(shape)} does not fit in 64 bits"
        raise InputError(what, path=path, tensor=name)
    return GgufTensor(name, kind, shape, offset, stop)


def _require_apart(tensors: Sequence[GgufTensor], path: str) -> None:
    end, names = 0, set()
    for each in tensors:
        if each.start < end:
            raise InputError("overlaps another tensor", path=path, tensor=each.name)
        if each.name in names:
            raise InputError("is there twice", path=path, tensor=each.name)
        names.add(each.name)
        end = each.stop


def lay_out_gguf(entries: Iterable[tuple[str, int, tuple[int, ...]]]) -> tuple[GgufTensor, ...]:
    """Tensors of these names, types and shapes, one after the other, each aligned."""
    made, end = [], 0
    for name, kind, shape in entries:
        start = end + -end % ALIGNMENT
        end = start + size_of(kind, prod(shape))
        made.append(GgufTensor(name, kind, shape, start, end))
    return tuple(made)


def encode_gguf(tensors: Sequence[GgufTensor], metadata: Mapping[str, str | int]) -> bytes:
    """The bytes before the data: version 3, texts and whole numbers of 32 bits as metadata.

    Raises LimitError beyond what readers allow.
    """
    parts = [MAGIC, struct.pack("<IQQ", VERSIONS[-1], len(tensors), len(metadata))]
    for key, value in sorted(metadata.items()):
        parts.append(_text(key))
        number = isinstance(value, int)
        parts.append(struct.pack("<I", UINT32 if number else STRING))
        parts.append(struct.pack("<I", value) if isinstance(value, int) else _text(value))
    parts.extend(_infos(tensors))
    raw = b"".join(parts)
    if len(raw) > MAX_HEADER:
        raise LimitError(f"the header would take {len(raw)} bytes; {MAX_HEADER} are read")
    return raw + bytes(-len(raw) % ALIGNMENT)


def _infos(tensors: Sequence[GgufTensor]) -> Iterator[bytes]:
    for each in tensors:
        yield _text(each.name)
        sizes = struct.pack(f"<{len(each.shape)}Q", *reversed(each.shape))
        yield struct.pack("<I", len(each.shape)) + sizes
        yield struct.pack("<IQ", each.type, each.start)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw
