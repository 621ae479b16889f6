"""Single values of a tensor's bytes, for messages that show them.

Rule 1: nothing here is fast; numbers are computed by engines.
"""

from __future__ import annotations

import math
import struct

from .dtypes import DType

CODES = {
    DType.BOOL: "?",
    DType.U8: "B",
    DType.I8: "b",
    DType.U16: "H",
    DType.I16: "h",
    DType.U32: "I",
    DType.I32: "i",
    DType.U64: "Q",
    DType.I64: "q",
    DType.F16: "e",
    DType.F32: "f",
    DType.F64: "d",
}
"""Format characters of the `struct` module for the dtypes that it knows."""
INTEGERS = (DType.I64, DType.I32)
PIECE = 1 << 20


def value_text(view: memoryview, dtype: DType, element: int) -> str:
    """One element as people write it; hexadecimal for a dtype that Python does not have."""
    width = dtype.bits // 8
    if not width:
        return f"0x{view[element * dtype.bits // 8]:02x}"
    raw = bytes(view[element * width : (element + 1) * width])
    if dtype is DType.BF16:
        # bf16: the upper half of an F32
        return f"{struct.unpack('<f', bytes(2) + raw)[0]:.4g}"
    if dtype not in CODES:
        return f"0x{int.from_bytes(raw, 'little'):0{2 * width}x}"
    (value,) = struct.unpack(f"<{CODES[dtype]}", raw)
    return f"{value:.7g}" if isinstance(value, float) else str(value).lower()


def first_difference(one: memoryview, other: memoryview) -> int | None:
    """The place of the first byte in which two views differ; None if they are equal."""
    for start in range(0, max(len(one), len(other)), PIECE):
        first, second = bytes(one[start : start + PIECE]), bytes(other[start : start + PIECE])
        if first != second:
            pairs = enumerate(zip(first, second, strict=False))
            return start + next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))
    return None


def rounded(data: memoryview, wide: DType, narrow: DType) -> bytes | None:
    """The same values in a narrower dtype, floats rounded to nearest even; None if there are none.

    Integers may become floats, or narrower integers that hold them.
    """
    if wide not in (DType.F64, DType.F32, DType.F16, *INTEGERS) or narrow not in (
        *CODES,
        DType.BF16,
    ):
        return None
    values = struct.unpack(f"<{len(data) * 8 // wide.bits}{CODES[wide]}", data)
    if narrow is DType.BF16:
        if wide is DType.F64:
            return None
        return b"".join(map(_bf16, struct.iter_unpack("<I", _packed(values, DType.F32))))
    try:
        return _packed(values, narrow)
    except struct.error:
        # an integer that the dtype does not hold
        return None


def _packed(values: tuple[float, ...], dtype: DType) -> bytes:
    try:
        return struct.pack(f"<{len(values)}{CODES[dtype]}", *values)
    except OverflowError:
        return b"".join(_packed_one(value, dtype) for value in values)


def _packed_one(value: float, dtype: DType) -> bytes:
    try:
        return struct.pack(f"<{CODES[dtype]}", value)
    except OverflowError:
        return struct.pack(f"<{CODES[dtype]}", math.copysign(math.inf, value))


def _bf16(word: tuple[int]) -> bytes:
    """The upper half of a number in F32, rounded to nearest even; NaN stays NaN."""
    (bits,) = word
    if bits & 0x7FFFFFFF > 0x7F800000:
        return struct.pack("<H", bits >> 16 | 0x40)
    return struct.pack("<H", bits + 0x7FFF + (bits >> 16 & 1) >> 16)
