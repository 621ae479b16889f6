"""The fast engine gives the bits of the readable one, on the worst patterns there are."""

import ctypes
import platform
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soupctl.engines.contract import NonFinite, OutOfRange, WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.reference import ReferenceEngine, encode, largest_code
from soupctl.format.dtypes import FLOATS, DType
from soupctl.kernels import tables

FAST, TRUE = CpuEngine(), ReferenceEngine()

# of the C library's <fenv.h>
FE_TONEAREST = 0
FE_UPWARD = {"x86_64": 0x800, "aarch64": 0x400000, "arm64": 0x400000}


def outcome(engine, mean, sources, count):
    """The bytes of the mean of `sources`, or the words of what is raised."""
    out = bytearray(count * mean.out.bits // 8)
    try:
        engine.prepare(mean, [memoryview(each) for each in sources])(0, count, memoryview(out))
    except (NonFinite, OutOfRange) as refused:
        return f"{type(refused).__name__}: {refused}"
    return bytes(out)


def pack(dtype, codes):
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)


def rounded(dtype, values):
    """The bytes of the values of `dtype` nearest to `values`, all in range."""
    return pack(dtype, [encode(Fraction(value), dtype) for value in values])


def finite_codes(dtype):
    """Any finite pattern, with those at the edges of the format more often."""
    largest = largest_code(dtype.float_format)
    normal = 2 ** (dtype.float_format.precision - 1)
    one = encode(Fraction(1), dtype)
    edges = [
        0,
        1,
        2,
        3,
        normal - 1,
        normal,
        normal + 1,
        one - 1,
        one,
        one + 1,
        largest - 1,
        largest,
    ]
    magnitudes = st.sampled_from(edges) | st.integers(0, largest)
    return st.tuples(magnitudes, st.booleans()).map(
        lambda code: code[0] | code[1] << (dtype.bits - 1)
    )


@st.composite
def weights(draw, count):
    """Weights of either sign, small or as large as they may be, with a total that is allowed."""
    most = draw(st.sampled_from([1, 2, 10, 1000, 2**24, 2**29, 10**9, 2**53, 10**17, 2**62]))
    drawn = [draw(st.integers(1, most)) * draw(st.sampled_from([1, 1, -1])) for _ in range(count)]
    if sum(drawn) < 0:
        drawn = [-weight for weight in drawn]
    if not 0 < sum(drawn) <= 2**62:
        drawn = [1] * count
    return tuple(drawn)


@st.composite
def soups(draw, codes=finite_codes):
    """A mean of any dtypes and its sources, of few elements."""
    dtype = draw(st.sampled_from([*FLOATS]))
    count = draw(st.integers(1, 7))
    same = draw(st.booleans())
    dtypes = [dtype if same else draw(st.sampled_from([*FLOATS])) for _ in range(count)]
    out = draw(st.sampled_from([dtype, *FLOATS]))
    length = draw(st.integers(1, 5))
    sources = [
        pack(each, draw(st.lists(codes(each), min_size=length, max_size=length))) for each in dtypes
    ]
    return WeightedMean(tuple(dtypes), draw(weights(count)), out), sources, length


@settings(max_examples=1000)
@given(soups())
def test_means_of_finite_values_are_exact(soup):
    assert outcome(TRUE, *soup) == outcome(FAST, *soup)


def any_codes(dtype):
    return st.integers(0, 2**dtype.bits - 1) | st.just(encode(Fraction(1), dtype))


@settings(max_examples=300)
@given(soups(any_codes), st.booleans())
def test_nan_and_infinity_follow_the_rules(soup, allowed):
    mean = replace(soup[0], allow_nonfinite=allowed)

    assert outcome(TRUE, mean, *soup[1:]) == outcome(FAST, mean, *soup[1:])


@settings(max_examples=300)
@given(st.data(), st.sampled_from([*FLOATS]), st.sampled_from([*FLOATS]))
def test_values_of_few_bits_tie_often_and_tie_to_even(data, dtype, out):
    count = data.draw(st.integers(2, 8))
    format = out.float_format
    numbers = st.integers(0, 2 ** min(format.precision + 1, dtype.float_format.precision))
    columns = [data.draw(st.lists(numbers, min_size=16, max_size=16)) for _ in range(count)]
    scale = Fraction(1, 2 ** (format.precision - 2))
    sources = [rounded(dtype, [value * scale for value in column]) for column in columns]
    soup = WeightedMean((dtype,) * count, data.draw(weights(count)), out), sources, 16

    assert outcome(TRUE, *soup) == outcome(FAST, *soup)


@pytest.mark.parametrize("out", FLOATS)
@pytest.mark.parametrize("far", [-1074, -1000, -300, -110, -54])
@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize("weight", [1, 3, 2**22 + 1])
def test_the_smallest_far_away_term_decides_a_tie(out, far, sign, weight):
    last = Fraction(1, 2 ** (out.float_format.precision - 1))
    tiny = sign * Fraction(2) ** far
    columns = [[1 + last, -1 - 2 * last], [1, -1 - last], [tiny, -tiny], [0, 0]]
    mean = WeightedMean((DType.F64,) * 4, (weight, weight, 1, -1), out)
    expected = [1 + last if sign > 0 else 1, -1 - 2 * last if sign >= 0 else -1 - last]

    assert rounded(out, expected) == outcome(
        FAST, mean, [rounded(DType.F64, column) for column in columns], 2
    )


@pytest.mark.parametrize("out", FLOATS)
def test_values_that_cancel_leave_the_rest_exact(out):
    columns = [[2**1000, 2.0**1023], [-(2**1000), -(2.0**1023)], [1, 2.0**-9], [3, 2.0**-8]]
    sources = [rounded(DType.F64, map(Fraction, column)) for column in columns]
    mean = WeightedMean((DType.F64,) * 4, (1, 1, 1, 1), out)

    assert outcome(TRUE, mean, sources, 2) == outcome(FAST, mean, sources, 2)
    assert rounded(out, [1, Fraction(3, 2048)]) == outcome(FAST, mean, sources, 2)


@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.BF16])
def test_the_exact_path_recovers_more_than_two_levels_of_residuals(dtype):
    columns = [[2**120], [2**60], [Fraction(1, 2)], [-(2**120)], [-(2**60)]]
    sources = [rounded(dtype, column) for column in columns]

    mean = outcome(FAST, WeightedMean((dtype,) * 5, (1,) * 5, DType.F64), sources, 1)
    assert rounded(DType.F64, [Fraction(1, 10)]) == mean


def test_a_last_remainder_decides_a_tie():
    # 2**76 is 1 modulo the total, so the quotient is a tie but for its 99th bit
    total, unit = 7879695, Fraction(1, 2**978)
    # their sum is the lowest bit that they have
    values = ((2**52 + 1) * unit, -(2**52) * unit, 1, -1, 0)
    sources = [rounded(DType.F64, [value]) for value in values]
    mean = WeightedMean((DType.F64,) * 5, (1, 1, 1, 1, total - 4), DType.F64)
    below = 2**75 // total

    assert (1, 1) == (2**76 % total, 2**76 // total % 4)
    assert rounded(DType.F64, [(below + 1) * unit / 2**75]) == outcome(FAST, mean, sources, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [100, 700])
def test_hundreds_of_sources_are_summed_exactly(dtype, count):
    random_bits = random.Random(count)
    largest = largest_code(dtype.float_format)
    codes = [[random_bits.randint(0, largest) for _ in range(3)] for _ in range(count)]
    sources = [pack(dtype, column) for column in codes]
    scale = [random_bits.randint(1, 2**20) * (-1) ** row for row in range(count - 1)]
    mean = WeightedMean((dtype,) * count, (*scale, 1 - sum(scale) or 1), dtype)

    for each in (mean, replace(mean, weights=(1,) * count)):
        assert outcome(TRUE, each, sources, 3) == outcome(FAST, each, sources, 3)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("length", [1, 7, tables.TILE - 1, tables.TILE + 9])
def test_any_alignment_and_any_tail_give_the_same(dtype, offset, length):
    largest = largest_code(dtype.float_format)
    width = dtype.bits // 8
    random_bits = random.Random(length)
    codes = [[random_bits.randint(0, largest) for _ in range(length)] for _ in range(3)]
    aligned = [pack(dtype, column) for column in codes]
    moved = [memoryview(bytes(offset) + each)[offset:] for each in aligned]
    mean = WeightedMean((dtype,) * 3, (1, 1, 1), dtype)
    room = bytearray(b"\xaa") * (offset + length * width + 8)
    end = offset + length * width
    FAST.prepare(mean, moved)(0, length, memoryview(room)[offset:end])

    assert outcome(FAST, mean, aligned, length) == room[offset:end]
    assert b"\xaa" * offset + b"\xaa" * 8 == room[:offset] + room[end:]
    for element in (0, length // 2, length - 1):
        one = [each[element * width : (element + 1) * width] for each in aligned]
        place = offset + element * width
        assert outcome(TRUE, mean, one, 1) == room[place : place + width]


@pytest.mark.parametrize("dtype", FLOATS)
def test_threads_do_not_show(dtype):
    random_bits = random.Random(0)
    length, step = 40_000, 1_237
    largest = largest_code(dtype.float_format)
    sources = [
        memoryview(pack(dtype, random_bits.choices(range(min(largest, 2**62)), k=length)))
        for _ in range(2)
    ]
    mean = WeightedMean((dtype, dtype), (2, 1), dtype)
    combine = FAST.prepare(mean, sources)
    width = dtype.bits // 8
    out = bytearray(length * width)

    def work(start):
        stop = min(start + step, length)
        combine(start, stop, memoryview(out)[start * width : stop * width])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(0, length, step)))
    assert outcome(FAST, mean, sources, length) == out


def test_the_lowest_element_fails_first_whatever_its_failure():
    mean = WeightedMean((DType.F32,), (1,), DType.F16)
    source = bytearray(rounded(DType.F32, [1] * 5000))
    source[4 * 3000 : 4 * 3001] = rounded(DType.F32, [70000])
    source[4 * 4000 : 4 * 4001] = pack(DType.F32, [0x7F800000])
    assert "OutOfRange: element 3000" == outcome(FAST, mean, [source], 5000)
    source[4 * 2999 : 4 * 3000] = pack(DType.F32, [0x7FC00000])

    assert "NonFinite: source 0, element 2999" == outcome(FAST, mean, [source], 5000)


def test_a_thread_that_rounds_otherwise_is_refused():
    library = ctypes.CDLL(None)
    assert 0 == library.fesetround(FE_UPWARD[platform.machine()])
    try:
        with pytest.raises(ArithmeticError):
            outcome(FAST, WeightedMean((DType.F16,), (1,), DType.F16), [b"ab"], 1)
    finally:
        library.fesetround(FE_TONEAREST)
