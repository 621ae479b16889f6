"""Every engine keeps the contract, whatever it runs on."""

import struct
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.engines.contract import Blend, NonFinite, OutOfRange
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.reference import ReferenceEngine, encode
from soupctl.format.dtypes import FLOATS, DType

LARGEST_DOUBLE = float.fromhex("0x1.fffffffffffffp1023")


@pytest.fixture(scope="module", params=[CpuEngine(), ReferenceEngine()], ids=lambda each: each.name)
def engine(request):
    return request.param


def combine(engine, blend, sources, start=0, stop=None):
    """The bytes of elements `start` to `stop` of a blend of `sources`."""
    if stop is None:
        stop = len(sources[0]) * 8 // blend.dtypes[0].bits
    out = bytearray((stop - start) * blend.out.bits // 8)
    engine.prepare(blend, [memoryview(source) for source in sources])(start, stop, memoryview(out))
    return bytes(out)


def outcome(engine, blend, sources, start, stop):
    """What `combine` returns, or the words of what it raises."""
    try:
        return combine(engine, blend, sources, start, stop)
    except (NonFinite, OutOfRange) as refused:
        return f"{type(refused).__name__}: {refused}"


def patterns(dtype, values):
    """The bytes of values that `dtype` holds or rounds to."""
    width = dtype.bits // 8
    return b"".join(encode(Fraction(value), dtype).to_bytes(width, "little") for value in values)


def mean(engine, dtype, *columns, weights=None, out=None):
    """The bytes of the mean of one row of values for each weight."""
    weights = weights or (1,) * len(columns)
    blend = Blend((dtype,) * len(columns), weights, out or dtype)
    return combine(engine, blend, [patterns(dtype, column) for column in columns])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_mean_of_one_and_two_is_one_and_a_half(engine, dtype):
    assert patterns(dtype, [1.5]) == mean(engine, dtype, [1], [2])


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2])
def test_a_soup_of_one_is_that_one(engine, dtype):
    """Every pattern but NaN, infinity and -0.0 comes through, subnormals included."""
    half = 2 ** (dtype.bits - 1)
    finite = encode(dtype.float_format.largest, dtype) + 1
    codes = [*range(finite), *range(half + 1, half + finite)]
    if engine.name == "reference":
        codes = codes[:: max(1, len(codes) // 512)]
    raw = b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)

    assert raw == combine(engine, Blend((dtype,), (1,), dtype), [raw])
    assert raw == combine(engine, Blend((dtype,), (3,), dtype), [raw])


@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_has_no_sign_and_what_rounds_to_zero_has(engine, dtype):
    tiny = Fraction(2) ** dtype.float_format.quantum
    minus_zero = (2 ** (dtype.bits - 1)).to_bytes(dtype.bits // 8, "little")
    plus_zero = bytes(dtype.bits // 8)
    blend = Blend((dtype,), (1,), dtype)

    assert plus_zero == combine(engine, blend, [minus_zero])
    assert plus_zero == mean(engine, dtype, [1], [-1])
    assert minus_zero == mean(engine, dtype, [-tiny], [0])
    assert plus_zero == mean(engine, dtype, [tiny], [0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_values_average_to_themselves(engine, dtype):
    largest = dtype.float_format.largest

    assert patterns(dtype, [largest]) == mean(engine, dtype, [largest], [largest])
    assert patterns(dtype, [-largest]) == mean(engine, dtype, *[[-largest]] * 5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_only_what_rounds_above_the_largest_value_is_refused(engine, dtype):
    largest = dtype.float_format.largest
    below = largest - last_step(dtype)

    # a quarter of a step above the largest, half a step, a whole one
    assert patterns(dtype, [largest]) == mean(engine, dtype, [largest], [below], weights=(5, -1))
    if dtype is DType.F8_E4M3:
        # 448 is even: what lies half-way to the missing 480 comes down
        assert patterns(dtype, [448]) == mean(engine, dtype, [448], [416], weights=(3, -1))
    else:
        with pytest.raises(OutOfRange, match="element 1"):
            mean(engine, dtype, [0, largest], [0, below], weights=(3, -1))
    with pytest.raises(OutOfRange, match="element 0"):
        mean(engine, dtype, [-largest], [-below], weights=(2, -1))


def last_step(dtype):
    """The distance from the largest value to the one below."""
    format = dtype.float_format
    return Fraction(2) ** (format.largest.numerator.bit_length() - format.precision)


def test_double_sums_do_not_overflow_before_the_division(engine):
    raw = struct.pack("<d", LARGEST_DOUBLE)
    blend = Blend((DType.F64,) * 3, (2**22, 2**22, -(2**22) + 1), DType.F64)

    assert raw == combine(engine, blend, [raw] * 3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_elements_give_no_bytes(engine, dtype):
    assert b"" == combine(engine, Blend((dtype, dtype), (1, 1), dtype), [b"", b""])


@pytest.mark.parametrize("out", FLOATS)
def test_the_lowest_failing_element_and_source_are_named(engine, out):
    nan = b"\x00\x7e"
    one = b"\x00\x3c"
    blend = Blend((DType.F32, DType.F16, DType.F16), (1, 1, 1), out)
    sources = [struct.pack("<4f", 1, 1, 1, float("inf")), one + one + nan + nan, one + nan * 3]

    with pytest.raises(NonFinite) as refused:
        combine(engine, blend, sources)
    assert (2, 1) == (refused.value.source, refused.value.element)
    with pytest.raises(NonFinite) as refused:
        combine(engine, blend, sources, 2, 4)
    assert (1, 2) == (refused.value.source, refused.value.element)


@given(raw=st.binary(min_size=96, max_size=96), cut=st.integers(0, 8))
def test_chunking_does_not_show(engine, raw, cut):
    blend = Blend((DType.F32,) * 3, (1, 3, -1), DType.F32, allow_nonfinite=True)
    sources = [raw[0:32], raw[32:64], raw[64:96]]
    whole = outcome(engine, blend, sources, 0, 8)
    parts = [outcome(engine, blend, sources, *part) for part in ((0, cut), (cut, 8))]

    failures = [part for part in parts if not isinstance(part, bytes)]
    assert whole == (failures[0] if failures else b"".join(parts))


@given(raw=st.binary(min_size=24, max_size=24))
def test_order_does_not_show(engine, raw):
    dtypes = (DType.F64, DType.F32, DType.F32, DType.F64)
    values = (raw[0:8], raw[8:12], raw[12:16], raw[16:24])
    rows = list(zip(dtypes, (1, -2, 3, 5), values, strict=True))
    seen = set()
    for order in permutations(rows):
        order_dtypes, weights, sources = zip(*order, strict=True)
        blend = Blend(order_dtypes, weights, DType.F64, allow_nonfinite=True)
        seen.add(outcome(engine, blend, sources, 0, 1))

    assert 1 == len(seen)
