"""The engine that the others are held against is right about every format."""

from fractions import Fraction
from itertools import pairwise
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.engines.reference import decode, encode, largest_code
from soupctl.format.dtypes import FLOATS, DType

SMALL = [DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2]

NUMPY = {DType.F16: (np.uint16, np.float16), DType.F32: (np.uint32, np.float32)}

# written down from the formats' specifications: pattern, value
KNOWN = [
    (DType.F8_E4M3, 0x01, Fraction(1, 512)),
    (DType.F8_E4M3, 0x07, Fraction(7, 512)),
    (DType.F8_E4M3, 0x08, Fraction(1, 64)),
    (DType.F8_E4M3, 0x38, Fraction(1)),
    (DType.F8_E4M3, 0x78, Fraction(256)),
    (DType.F8_E4M3, 0xFE, Fraction(-448)),
    (DType.F8_E5M2, 0x01, Fraction(1, 65536)),
    (DType.F8_E5M2, 0x04, Fraction(1, 16384)),
    (DType.F8_E5M2, 0x3C, Fraction(1)),
    (DType.F8_E5M2, 0xFB, Fraction(-57344)),
    (DType.BF16, 0x0001, Fraction(1, 2**133)),
    (DType.BF16, 0x3F80, Fraction(1)),
    (DType.BF16, 0x7F7F, Fraction(255 * 2**120)),
    (DType.F32, 0x00000001, Fraction(1, 2**149)),
    (DType.F64, 0x0000000000000001, Fraction(1, 2**1074)),
]


@pytest.mark.parametrize(("dtype", "code", "value"), KNOWN)
def test_known_patterns_have_their_values(dtype, code, value):
    assert (value, code) == (decode(code, dtype), encode(value, dtype))


def test_every_fp16_pattern_decodes_as_in_numpy():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)

    assert list(map(repr, map(float, halves))) == [
        # a fraction has no -0.0
        repr(-0.0) if code == 0x8000 else repr(float(decode(code, DType.F16)))
        for code in range(2**16)
    ]


def test_every_bf16_pattern_is_the_upper_half_of_an_fp32_one():
    singles = (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):
        wide = singles.astype(np.float64)

    assert list(map(repr, wide.tolist())) == [
        repr(-0.0) if code == 0x8000 else repr(float(decode(code, DType.BF16)))
        for code in range(2**16)
    ]


@pytest.mark.parametrize("dtype", SMALL)
def test_every_finite_pattern_comes_back(dtype):
    half = 2 ** (dtype.bits - 1)
    codes = [*range(largest_code(dtype.float_format) + 1)]
    codes += [half + code for code in codes[1:]]

    assert codes == [encode(decode(code, dtype), dtype) for code in codes]


@pytest.mark.parametrize("dtype", SMALL)
def test_half_way_goes_to_the_even_pattern_and_beside_it_to_the_nearer(dtype):
    grain = Fraction(1, 2**200)
    for low, high in pairwise(range(largest_code(dtype.float_format) + 1)):
        middle = (decode(low, dtype) + decode(high, dtype)) / 2
        even = low if low % 2 == 0 else high
        near = [encode(middle + offset, dtype) for offset in (-grain, 0, grain)]
        assert [low, even, high] == near


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_quiet_nan_is_one_and_the_infinities_are_where_the_format_has_them(dtype):
    format = dtype.float_format
    infinity = encode(float("inf"), dtype)

    assert isnan(decode(format.quiet_nan, dtype))
    assert format.quiet_nan == encode(float("nan"), dtype)
    assert (infinity is not None) == format.has_infinity
    assert infinity is None or float("inf") == decode(infinity, dtype)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_round_to_singles_as_numpy_rounds_them(value):
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(value)
    expected = int(single.view(np.uint32)) if np.isfinite(single) else None

    if value == 0:
        expected = 0
    assert expected == encode(Fraction(value), DType.F32)
