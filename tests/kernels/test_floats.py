"""The machine's arithmetic is what the proofs take it to be."""

import ctypes
import re

import numba
import numpy as np
import pytest

from soupctl.engines.addresses import address
from soupctl.engines.native import native_address
from soupctl.engines.reference import decode
from soupctl.format.dtypes import DType
from soupctl.kernels import rounding, sums, tables, wide_rounding

SMALL = [DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2]
WAYS = [(dtype, dtype.value) for dtype in SMALL]


def widened(rows_of, raw, count):
    """The float64 totals of a sum of one row, tile by tile."""
    add = native_address("sums.add_bounded", rows_of)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 7)(add)
    data, weights = np.frombuffer(raw, np.uint8), np.ones(1)
    rows, tile = np.array([address(data)]), np.empty(tables.TILE_SCRATCH)
    values = []
    for start in range(0, count, tables.TILE):
        length = min(tables.TILE, count - start)
        pointers = (address(rows), address(weights))
        function(*pointers, 0, 1, start, length, address(tile))
        values.extend(tile[:length].tolist())
    return values


@pytest.mark.parametrize(("dtype", "rows_of"), [*WAYS, (DType.F16, "F16 as bits")])
def test_every_pattern_widens_to_its_value(dtype, rows_of):
    """It does so with and without the processor's own fp16."""
    count = 2**dtype.bits
    raw = b"".join(code.to_bytes(dtype.bits // 8, "little") for code in range(count))
    expected = [float(decode(code, dtype)) for code in range(count)]

    # repr, so that NaN equals NaN
    assert list(map(repr, (value + 0.0 for value in expected))) == list(
        map(repr, widened(rows_of, raw, count))
    )


KERNELS = [
    *((sums.add_proved, sums.signature(name)) for name in tables.ROW_NAMES),
    *((rounding.finish, rounding.signature(bits)) for bits in ("16", "64")),
    *((wide_rounding.finish_wide, rounding.signature(bits)) for bits in ("16", "64")),
]


@pytest.mark.parametrize(("kernel", "signature"), KERNELS)
def test_no_product_is_fused_into_a_sum(kernel, signature):
    assembly = numba.njit(signature, error_model="numpy")(kernel).inspect_asm()

    assert [] == re.findall(r"\bv?fn?m(?:add|sub)\w*|\bfml[as]\b", "".join(assembly.values()))
