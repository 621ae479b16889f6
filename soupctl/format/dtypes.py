"""The dtypes of the safetensors format, and how a soup treats each.

Rule 1: the names are safetensors' own; `parse_dtype` also takes the usual spellings.
Rule 2: a float dtype is described by three integers, so that containment is decided, not assumed.
"""

from __future__ import annotations

import reprlib
from enum import Enum
from fractions import Fraction
from functools import cache

from ..errors import UsageError
from ..frozen import frozen


class Kind(Enum):
    """How a soup treats values of a dtype."""

    FLOAT = "averaged"
    INTEGER = "copied if identical, or taken from the first on request"
    OPAQUE = "copied if identical"


@frozen
class FloatFormat:
    """A binary floating-point format: its finite values are m * 2**e with |m| < 2**precision."""

    precision: int
    """Bits of the significand, the hidden one included."""
    quantum: int
    """Exponent of the smallest subnormal, 2**quantum."""
    largest: Fraction
    """The largest finite value."""
    has_infinity: bool
    quiet_nan: int
    """Bit pattern of the one NaN that soupctl writes."""

    def holds(self, other: FloatFormat) -> bool:
        """Whether every finite value of `other` is a value of this format."""
        return (
            self.precision >= other.precision
            and self.quantum <= other.quantum
            and self.largest >= other.largest
        )


def _ieee(precision: int, exponent_bits: int) -> FloatFormat:
    bias = 2 ** (exponent_bits - 1) - 1
    largest = (Fraction(2) - Fraction(1, 2 ** (precision - 1))) * Fraction(2) ** bias
    quiet_nan = (2 ** (exponent_bits + 1) - 1) << (precision - 2)
    return FloatFormat(precision, 2 - bias - precision, largest, True, quiet_nan)


class DType(Enum):
    """A dtype by its name in a safetensors header."""

    BOOL = "BOOL"
    F4 = "F4"
    F6_E2M3 = "F6_E2M3"
    F6_E3M2 = "F6_E3M2"
    U8 = "U8"
    I8 = "I8"
    F8_E5M2 = "F8_E5M2"
    F8_E4M3 = "F8_E4M3"
    F8_E8M0 = "F8_E8M0"
    F8_E4M3FNUZ = "F8_E4M3FNUZ"
    F8_E5M2FNUZ = "F8_E5M2FNUZ"
    I16 = "I16"
    U16 = "U16"
    F16 = "F16"
    BF16 = "BF16"
    I32 = "I32"
    U32 = "U32"
    F32 = "F32"
    C64 = "C64"
    F64 = "F64"
    I64 = "I64"
    U64 = "U64"

    # one object per dtype; hashing by name would be slow in the look-ups for each tensor
    __hash__ = object.__hash__

    @property
    def bits(self) -> int:
        """Size of one element in bits; below 8 for the sub-byte formats."""
        return BITS[self]

    @property
    def kind(self) -> Kind:
        """How a soup treats values of this dtype."""
        if self in FLOATS:
            return Kind.FLOAT
        return Kind.INTEGER if self in INTEGERS else Kind.OPAQUE

    @property
    def float_format(self) -> FloatFormat:
        """The format of a float dtype; KeyError for any other."""
        return FLOATS[self]


BITS = {
    DType.F4: 4,
    DType.F6_E2M3: 6,
    DType.F6_E3M2: 6,
    **dict.fromkeys((DType.BOOL, DType.U8, DType.I8, DType.F8_E5M2, DType.F8_E4M3), 8),
    **dict.fromkeys((DType.F8_E8M0, DType.F8_E4M3FNUZ, DType.F8_E5M2FNUZ), 8),
    **dict.fromkeys((DType.I16, DType.U16, DType.F16, DType.BF16), 16),
    **dict.fromkeys((DType.I32, DType.U32, DType.F32), 32),
    **dict.fromkeys((DType.C64, DType.F64, DType.I64, DType.U64), 64),
}

# narrowest first: the common dtype of a set is the first that holds all of them, so fp16 wins over
# bf16 where either would do (E4M3 with E5M2)
FLOATS = {
    # OCP "E4M3": no infinity, and only the all-ones pattern is NaN, so 448 is finite
    DType.F8_E4M3: FloatFormat(4, -9, Fraction(448), False, 0x7F),
    DType.F8_E5M2: _ieee(3, 5),
    DType.F16: _ieee(11, 5),
    DType.BF16: _ieee(8, 8),
    DType.F32: _ieee(24, 8),
    DType.F64: _ieee(53, 11),
}

INTEGERS = frozenset(
    (
        DType.BOOL,
        DType.U8,
        DType.I8,
        DType.I16,
        DType.U16,
        DType.I32,
        DType.U32,
        DType.I64,
        DType.U64,
    )
)

SPELLINGS = {
    "fp64": DType.F64,
    "float64": DType.F64,
    "fp32": DType.F32,
    "float32": DType.F32,
    "fp16": DType.F16,
    "float16": DType.F16,
    "half": DType.F16,
    "bfloat16": DType.BF16,
    "fp8_e4m3": DType.F8_E4M3,
    "float8_e4m3fn": DType.F8_E4M3,
    "fp8_e5m2": DType.F8_E5M2,
    "float8_e5m2": DType.F8_E5M2,
}


def parse_dtype(text: str) -> DType:
    """The float dtype that `text` names; UsageError for anything else."""
    known = {dtype.value.lower(): dtype for dtype in FLOATS} | SPELLINGS
    dtype = known.get(text.lower())
    if dtype is None:
        names = ", ".join(dtype.value for dtype in FLOATS)
        raise UsageError(f"{reprlib.repr(text)} is not a float dtype", advice=f"one of {names}")
    return dtype


@cache
def narrowest(dtypes: frozenset[DType]) -> DType:
    """The narrowest float dtype that holds every value of all `dtypes` (floats, at least one)."""
    formats = [dtype.float_format for dtype in dtypes]
    return next(
        dtype for dtype, room in FLOATS.items() if all(room.holds(format) for format in formats)
    )


def index_dtype(count: int) -> DType:
    """The dtype of places in a tensor of `count` elements."""
    return DType.U32 if count <= 2**32 else DType.U64
