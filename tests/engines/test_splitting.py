"""Weights of any length are split into numbers whose products are exact float64s."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soupctl.engines.splitting import LARGEST_WEIGHT, split_weight
from soupctl.format.dtypes import FLOATS, DType


@given(st.integers(-LARGEST_WEIGHT, LARGEST_WEIGHT), st.sampled_from([*FLOATS]))
@example(LARGEST_WEIGHT, DType.F32)
@example(-LARGEST_WEIGHT + 1, DType.F64)
@example(0, DType.F16)
def test_the_parts_add_up_have_one_sign_and_few_bits(weight, dtype):
    parts = split_weight(weight, dtype)
    bits = 24 if dtype is DType.F64 else 53 - dtype.float_format.precision

    assert weight == sum(parts)
    assert all((part < 0) == (weight < 0) for part in parts)
    for part in parts:
        odd = abs(part) // (part & -part or 1)
        assert odd < 2**bits


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weight", [1, -3, 2**24, 2**24 - 1, 3 * 2**40])
def test_a_short_weight_is_one_row(dtype, weight):
    assert (weight,) == split_weight(weight, dtype)
