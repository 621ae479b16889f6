"""Floats as bits, memory as rows, and calls by address: the intrinsics of the kernels.

Rule 1: memory is read and written with no assumption on its alignment.
Rule 2: widening to float64 is exact for every row type; ROW_TYPES says which type stands for which.
"""

from __future__ import annotations

import math
import platform

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

MAGNITUDE = 2**63 - 1
EXPONENT = 0x7FF << 52
LOW_HALF = 2**27 - 1


def half_is_native() -> bool:
    """Whether the processor widens fp16 itself; LLVM aborts where it cannot."""
    if platform.machine() in ("aarch64", "arm64"):
        return True
    return bool(binding.get_host_cpu_features().get("f16c"))


# formats that numba does not know are represented by integers, whose width may differ
HALF, HALF_AS_BITS = types.int16, types.int32
BFLOAT, E5M2, E4M3 = types.uint16, types.int8, types.uint8

ROW_TYPES = {
    "F64": types.float64,
    "F32": types.float32,
    "F16": HALF if half_is_native() else HALF_AS_BITS,
    "BF16": BFLOAT,
    "F8_E5M2": E5M2,
    "F8_E4M3": E4M3,
    # with integers only, so that the CPU's float modes do not matter
    "F16 as bits": HALF_AS_BITS,
}


def _small_floats(
    exponent_bits: int, fraction_bits: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.empty(256, np.float64)
    bias = 2 ** (exponent_bits - 1) - 1
    for code in range(128):
        exponent, fraction = divmod(code, 2**fraction_bits)
        significand = fraction + (2**fraction_bits if exponent else 0)
        values[code] = math.ldexp(significand, max(exponent, 1) - bias - fraction_bits)
    return values


E5M2_VALUES = _small_floats(5, 2)
E5M2_VALUES[0x7C] = math.inf
E5M2_VALUES[0x7D:0x80] = math.nan
E5M2_VALUES[0x80:] = -E5M2_VALUES[:0x80]

E4M3_VALUES = _small_floats(4, 3)
E4M3_VALUES[0x7F] = math.nan
E4M3_VALUES[0x80:] = -E4M3_VALUES[:0x80]


def _cast(source, target, llvm_type):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], llvm_type)

    return target(source), generate


@intrinsic
def bits_of(typing_context, value):  # type: ignore[no-untyped-def]
    """The 64 bits of a float64."""
    return _cast(types.float64, types.int64, ir.IntType(64))


@intrinsic
def float_of(typing_context, bits):  # type: ignore[no-untyped-def]
    """The float64 of 64 bits."""
    return _cast(types.int64, types.float64, ir.DoubleType())


@intrinsic
def single_of(typing_context, bits):  # type: ignore[no-untyped-def]
    """The float32 of 32 bits."""
    return _cast(types.int32, types.float32, ir.FloatType())


@intrinsic
def load(typing_context, row, index):  # type: ignore[no-untyped-def]
    """Element `index` of `row`: fp16 as a float64 if the processor can, else as 16 bits."""
    element = row.dtype
    result = {HALF: types.float64, HALF_AS_BITS: types.int16}.get(element, element)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.HalfType() if element == HALF else context.get_value_type(result)
        pointer = builder.bitcast(arguments[0], kind.as_pointer())
        place = builder.gep(pointer, [arguments[1]], source_etype=kind)
        value = builder.load(place, align=1, typ=kind)
        return builder.fpext(value, ir.DoubleType()) if element == HALF else value

    return result(row, types.intp), generate


@intrinsic
def store(typing_context, row, index, bits):  # type: ignore[no-untyped-def]
    """Put the low bits of `bits` at `index` of `row`, a row of integers."""
    element = row.dtype

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(element)
        pointer = builder.bitcast(arguments[0], kind.as_pointer())
        place = builder.gep(pointer, [arguments[1]], source_etype=kind)
        value = arguments[2] if kind.width == 64 else builder.trunc(arguments[2], kind)
        builder.store(value, place, align=1)
        return context.get_dummy_value()

    return types.void(row, types.intp, types.int64), generate


def _pointer(element):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(element)))

    return types.CPointer(element)(types.int64), generate


@intrinsic
def integers_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The row of int64 at `address`."""
    return _pointer(types.int64)


@intrinsic
def floats_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The row of float64 at `address`."""
    return _pointer(types.float64)


@intrinsic
def bytes_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The row of bytes at `address`."""
    return _pointer(types.uint8)


@intrinsic
def invoke(typing_context, address, arguments):  # type: ignore[no-untyped-def]
    """The int64 result of the compiled function at `address` for a tuple of arguments."""
    kinds = arguments.types

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        parameters = [context.get_value_type(kind) for kind in kinds]
        function = ir.FunctionType(ir.IntType(64), parameters)
        pointer = builder.inttoptr(values[0], function.as_pointer())
        return builder.call(pointer, cgutils.unpack_tuple(builder, values[1]))

    return types.int64(types.int64, arguments), generate


@register_jitable
def widen_half_bits(bits: int) -> float:
    """The float64 of fp16 bits, by integers alone, for processors that cannot."""
    magnitude = bits & 0x7FFF
    # the bits of a subnormal fp16 become a subnormal float64: the product is exact for both
    value: float = float_of(magnitude << 42) * 2.0**1008
    if magnitude > 0x7C00:
        value = math.nan
    elif magnitude == 0x7C00:
        value = math.inf
    return -value if bits & 0x8000 else value


def widen(row, index):  # type: ignore[no-untyped-def]
    """The exact float64 of element `index` of `row`; compiled code only."""
    raise NotImplementedError


@overload(widen)
def _widen(row, index):  # type: ignore[no-untyped-def]
    if row.dtype == BFLOAT:
        return lambda row, index: float(single_of(np.int32(np.uint32(load(row, index)) << 16)))
    if row.dtype == HALF_AS_BITS:
        return lambda row, index: widen_half_bits(np.int64(load(row, index)))
    if row.dtype == E5M2:
        return lambda row, index: E5M2_VALUES[np.uint8(load(row, index))]
    if row.dtype == E4M3:
        return lambda row, index: E4M3_VALUES[load(row, index)]
    return lambda row, index: float(load(row, index))


@register_jitable
def two_sum(first: float, second: float) -> tuple[float, float]:
    """The rounded sum, and exactly what rounding left out (Knuth, TAOCP 2, 4.2.2, theorem B)."""
    total = first + second
    seen = total - first
    return total, (first - (total - seen)) + (second - seen)
