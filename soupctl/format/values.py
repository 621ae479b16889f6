"""Single values of a tensor's bytes, for messages that show them.

Rule 1: nothing here is fast; numbers are computed by engines.
"""

from __future__ import annotations

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
"""Letters of the `struct` module for the dtypes that it knows."""
PIECE = 1 << 20


def value_text(view: memoryview, dtype: DType, element: int) -> str:
    """One element as people write it; the hexadecimal code of a dtype that Python has not."""
    width = dtype.bits // 8
    if not width:
        return f"0x{view[element * dtype.bits // 8]:02x}"
    raw = bytes(view[element * width : (element + 1) * width])
    if dtype is DType.BF16:
        # the upper half of the same number in F32
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
