"""Interpreted, the kernels give the bits of the processor's engine, or say that they do not."""

from fractions import Fraction

import pytest
import torch
from runs import (
    by_kernel,
    by_reference,
    finite,
    integers,
    mean_of,
    pack,
    require_agreement,
    usual,
)

from soupctl.engines.grouping import grouped_mean
from soupctl.engines.reference import encode
from soupctl.format.dtypes import FLOATS, DType
from soupctl.kernels.gpu import mean

EVERY = pack(DType.F16, range(2**16))
SIXTEEN = [DType.F16, DType.BF16]
EIGHT = [DType.F8_E4M3, DType.F8_E5M2]


@pytest.mark.parametrize("dtype", SIXTEEN)
@pytest.mark.parametrize("weights", [(1,), (3, -1)], ids=str)
def test_every_16_bit_pattern_is_averaged_as_the_processor_does_it(dtype, weights):
    turned = EVERY[2 * 12345 :] + EVERY[: 2 * 12345]

    doubts = require_agreement(mean_of([dtype] * len(weights), weights, dtype),
                               [EVERY, turned][: len(weights)], 2**16)  # fmt: skip

    if weights == (1,):
        # the blocks with infinity, NaN or both; in fp16 as many codes have that exponent as a block
        assert {DType.F16: 2, DType.BF16: 2}[dtype] == sum(doubts)


@pytest.mark.parametrize("dtype", EIGHT)
@pytest.mark.parametrize("out", [*EIGHT, DType.F16])
def test_every_pair_of_8_bit_patterns_is_averaged_as_the_processor_does_it(dtype, out):
    codes = range(2**8)
    first, second = bytes(codes) * 2**8, bytes(code for code in codes for _ in codes)

    require_agreement(mean_of([dtype] * 2, (1, 2), out), [first, second], 2**16)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("out", FLOATS)
def test_any_finite_bits_are_averaged_as_the_processor_does_it(dtype, out):
    sources = [finite(dtype, 1100, seed) for seed in range(5)]

    require_agreement(mean_of([dtype] * 2, (1, 1), out), sources[:2], 1100)
    require_agreement(mean_of([dtype] * 5, (700001, -3, 1, 7, 9), out), sources, 1100)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weights", [(1,), (1, 1), (1, 1, 1), (7, 3), (1234, -33, 8799)], ids=str)
def test_usual_weights_leave_no_doubt(dtype, weights):
    sources = [usual(dtype, 3000, seed) for seed in range(len(weights))]
    weighted_mean = mean_of([dtype] * len(weights), weights, dtype)

    assert [0] * (2 if dtype in EIGHT else 3) == require_agreement(weighted_mean, sources, 3000)


@pytest.mark.parametrize("out", FLOATS)
def test_mixtures_are_averaged_as_the_processor_does_it(out):
    dtypes = [DType.F16, DType.F8_E4M3, DType.F32, DType.BF16, DType.F64, DType.F8_E5M2, DType.F16]
    weights = (1, 2, 5, 3, -1, 4, 2)
    weighted_mean = mean_of(dtypes, weights, out)
    require_agreement(weighted_mean, [finite(dtype, 1100, 0) for dtype in dtypes], 1100)
    sources = [usual(dtype, 1100, seed) for seed, dtype in enumerate(dtypes)]

    assert [0, 0] == require_agreement(weighted_mean, sources, 1100)


@pytest.mark.parametrize("out", FLOATS)
@pytest.mark.parametrize("weight", [1, 3, 2**22 + 1])
def test_the_smallest_far_away_term_decides_a_tie(out, weight):
    last = Fraction(1, 2 ** (out.float_format.precision - 1))
    columns = [[], [], [], []]
    for far in (-1074, -1000, -300, -110, -54):
        for sign in (-1, 0, 1):
            tiny = sign * Fraction(2) ** far
            for column, value in zip(columns, (1 + last, 1, tiny, 0), strict=True):
                column.append(encode(Fraction(value), DType.F64))
    sources = [pack(DType.F64, column) for column in columns]

    require_agreement(mean_of([DType.F64] * 4, (weight, weight, 1, -1), out), sources, 15)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("divisor", [1, 6, 2**24, 2**24 + 1, 10**9, 10**17 + 3, 2**62])
def test_a_mean_may_have_a_divisor_of_its_own(dtype, divisor):
    sources = [usual(dtype, 300, seed) for seed in range(2)]

    require_agreement(mean_of([dtype] * 2, (5, -4), dtype, divisor), sources, 300)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weights", [(123456789, 876543211), (2**61 - 1, 2**61), (2**62, -1, -5)])
def test_weights_of_any_length_give_the_bytes_of_the_processor(dtype, weights):
    for make in (usual, finite):
        sources = [make(dtype, 300, seed) for seed in range(len(weights))]

        require_agreement(mean_of([dtype] * len(weights), weights, dtype), sources, 300)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", ["nan", "infinity", "range"])
def test_a_block_with_an_undefined_mean_is_left_unchanged(dtype, bad):
    format = dtype.float_format
    codes = {
        "nan": format.quiet_nan,
        "infinity": encode(float("inf"), dtype),
        "range": encode(format.largest, dtype),
    }
    if codes[bad] is None:
        pytest.skip("the format has no infinity")
    block = 2048 if dtype in EIGHT else 1024
    one = encode(Fraction(1), dtype)
    column = [one] * (3 * block)
    column[2 * block - 1] = codes[bad]
    ones = pack(dtype, [one] * (3 * block))
    weighted_mean = mean_of([dtype, dtype], (9, -1), dtype)
    assert [0, 1, 0] == require_agreement(weighted_mean, [pack(dtype, column), ones], 3 * block)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [1, 7, 1024, 2059])
def test_any_start_and_any_tail_give_the_same(dtype, count):
    sources = [finite(dtype, count, seed) for seed in range(2)]
    weighted_mean = mean_of([dtype] * 2, (2, 1), dtype)
    expected = by_reference(weighted_mean, sources, count)

    assert [expected] * 3 == [
        by_kernel(weighted_mean, sources, count, offset) for offset in (0, 1, 3)
    ]


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_hundred_rows_are_averaged_as_the_processor_does_it(dtype):
    sources = [usual(dtype, 40, seed) for seed in range(100)]
    weights = [(-1) ** row * (row + 1) for row in range(99)]

    require_agreement(mean_of([dtype] * 100, (*weights, 100), dtype), sources, 40)
    require_agreement(mean_of([dtype] * 100, (1,) * 100, dtype), sources, 40)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_mean_may_take_the_place_of_one_of_its_rows(dtype):
    """As an update of a soup that is no more than its rounded means."""
    soup, part = usual(dtype, 3000, 0), usual(dtype, 3000, 1)
    weighted_mean = mean_of([dtype] * 2, (3, 1), dtype)
    grouped = grouped_mean(weighted_mean)
    rows = [integers(source, dtype.bits // 8) for source in (soup, part)]
    doubts = torch.empty(3, dtype=torch.int8)
    addresses = torch.tensor([row.data_ptr() for row in rows])
    mean.launch_mean(
        grouped.config, addresses, torch.tensor(grouped.table, dtype=torch.float64), rows[0], doubts
    )

    assert by_reference(weighted_mean, [soup, part], 3000)[0] == rows[0].numpy().tobytes()


def test_doubtful_elements_far_apart_are_all_settled():
    """One program of the second pass sees to many blocks, any of which may be marked."""
    block, far = 1024, (0, 1, mean.SCANNED - 1, mean.SCANNED, mean.SCANNED + 1)
    count = (mean.SCANNED + 2) * block - 5
    rows = [torch.ones(count), torch.ones(count)]
    for place in far:
        # the sum is no float64, but its rounding is plain
        rows[1][place * block + 7] = 2.0**-60
    rows[1][-1] = float("inf")
    weighted_mean = mean_of([DType.F32] * 2, (1, 2), DType.F32)
    sources = [row.numpy().tobytes() for row in rows]

    assert [0] * (mean.SCANNED + 1) + [1] == require_agreement(weighted_mean, sources, count)
