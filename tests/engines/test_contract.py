"""Every engine keeps the contract, whatever it runs on."""

import struct
from fractions import Fraction
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.engines.contract import NonFinite, OutOfRange, WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.reference import ReferenceEngine, decode, encode
from soupctl.format.dtypes import FLOATS, DType

LARGEST_DOUBLE = float.fromhex("0x1.fffffffffffffp1023")


@pytest.fixture(scope="module", params=["cpu", "reference", "triton"])
def engine(request):
    if request.param == "triton":
        return request.getfixturevalue("interpreted_engine")
    return {"cpu": CpuEngine(), "reference": ReferenceEngine()}[request.param]


def combine(engine, mean, sources, start=0, stop=None):
    """The bytes of elements `start` to `stop` of a mean of `sources`."""
    if stop is None:
        stop = len(sources[0]) * 8 // mean.dtypes[0].bits
    out = bytearray((stop - start) * mean.out.bits // 8)
    engine.prepare(mean, [memoryview(source) for source in sources])(start, stop, memoryview(out))
    return bytes(out)


def outcome(engine, mean, sources, start, stop):
    """What `combine` returns, or the words of what it raises."""
    try:
        return combine(engine, mean, sources, start, stop)
    except (NonFinite, OutOfRange) as refused:
        return f"{type(refused).__name__}: {refused}"


def patterns(dtype, values):
    """The bytes of values that `dtype` holds or rounds to."""
    width = dtype.bits // 8
    return b"".join(encode(Fraction(value), dtype).to_bytes(width, "little") for value in values)


def mean_of(engine, dtype, *columns, weights=None, out=None):
    """The bytes of the mean of one row of values for each weight."""
    weights = weights or (1,) * len(columns)
    mean = WeightedMean((dtype,) * len(columns), weights, out or dtype)
    return combine(engine, mean, [patterns(dtype, column) for column in columns])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_mean_of_one_and_two_is_one_and_a_half(engine, dtype):
    assert patterns(dtype, [1.5]) == mean_of(engine, dtype, [1], [2])


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2])
def test_a_soup_of_one_is_that_one(engine, dtype):
    """Every pattern but NaN, infinity and -0.0 comes through, subnormals included."""
    half = 2 ** (dtype.bits - 1)
    finite = encode(dtype.float_format.largest, dtype) + 1
    codes = [*range(finite), *range(half + 1, half + finite)]
    if engine.name == "reference":
        codes = codes[:: max(1, len(codes) // 512)]
    raw = b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)

    assert raw == combine(engine, WeightedMean((dtype,), (1,), dtype), [raw])
    assert raw == combine(engine, WeightedMean((dtype,), (3,), dtype), [raw])


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_exact_zero_has_no_sign_and_a_mean_rounded_to_zero_keeps_its_sign(engine, dtype):
    tiny = Fraction(2) ** dtype.float_format.quantum
    minus_zero = (2 ** (dtype.bits - 1)).to_bytes(dtype.bits // 8, "little")
    plus_zero = bytes(dtype.bits // 8)
    mean = WeightedMean((dtype,), (1,), dtype)

    assert plus_zero == combine(engine, mean, [minus_zero])
    assert plus_zero == mean_of(engine, dtype, [1], [-1])
    assert minus_zero == mean_of(engine, dtype, [-tiny], [0])
    assert plus_zero == mean_of(engine, dtype, [tiny], [0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_values_average_to_themselves(engine, dtype):
    largest = dtype.float_format.largest

    assert patterns(dtype, [largest]) == mean_of(engine, dtype, [largest], [largest])
    assert patterns(dtype, [-largest]) == mean_of(engine, dtype, *[[-largest]] * 5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_only_means_that_round_above_the_largest_value_are_refused(engine, dtype):
    largest = dtype.float_format.largest
    below = largest - last_step(dtype)

    # a quarter of a step above the largest, half a step, a whole one
    assert patterns(dtype, [largest]) == mean_of(engine, dtype, [largest], [below], weights=(5, -1))
    if dtype is DType.F8_E4M3:
        # 448 is even: what lies half-way to the missing 480 comes down
        assert patterns(dtype, [448]) == mean_of(engine, dtype, [448], [416], weights=(3, -1))
    else:
        with pytest.raises(OutOfRange, match="element 1"):
            mean_of(engine, dtype, [0, largest], [0, below], weights=(3, -1))
    with pytest.raises(OutOfRange, match="element 0"):
        mean_of(engine, dtype, [-largest], [-below], weights=(2, -1))


def last_step(dtype):
    """The distance from the largest value to the one below."""
    format = dtype.float_format
    return Fraction(2) ** (format.largest.numerator.bit_length() - format.precision)


def test_double_sums_do_not_overflow_before_the_division(engine):
    raw = struct.pack("<d", LARGEST_DOUBLE)
    mean = WeightedMean((DType.F64,) * 3, (2**22, 2**22, -(2**22) + 1), DType.F64)

    assert raw == combine(engine, mean, [raw] * 3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_elements_give_no_bytes(engine, dtype):
    assert b"" == combine(engine, WeightedMean((dtype, dtype), (1, 1), dtype), [b"", b""])


@pytest.mark.parametrize("out", FLOATS)
def test_the_lowest_failing_element_and_source_are_named(engine, out):
    nan = b"\x00\x7e"
    one = b"\x00\x3c"
    mean = WeightedMean((DType.F32, DType.F16, DType.F16), (1, 1, 1), out)
    sources = [struct.pack("<4f", 1, 1, 1, float("inf")), one + one + nan + nan, one + nan * 3]

    with pytest.raises(NonFinite) as refused:
        combine(engine, mean, sources)
    assert (2, 1) == (refused.value.source, refused.value.element)
    with pytest.raises(NonFinite) as refused:
        combine(engine, mean, sources, 2, 4)
    assert (1, 2) == (refused.value.source, refused.value.element)


@given(raw=st.binary(min_size=96, max_size=96), cut=st.integers(0, 8))
def test_chunking_does_not_show(engine, raw, cut):
    mean = WeightedMean((DType.F32,) * 3, (1, 3, -1), DType.F32, allow_nonfinite=True)
    sources = [raw[0:32], raw[32:64], raw[64:96]]
    whole = outcome(engine, mean, sources, 0, 8)
    parts = [outcome(engine, mean, sources, *part) for part in ((0, cut), (cut, 8))]

    failures = [part for part in parts if not isinstance(part, bytes)]
    assert whole == (failures[0] if failures else b"".join(parts))


@given(raw=st.binary(min_size=24, max_size=24))
def test_order_does_not_show(engine, raw):
    dtypes = (DType.F64, DType.F32, DType.F32, DType.F64)
    values = (raw[0:8], raw[8:12], raw[12:16], raw[16:24])
    rows = list(zip(dtypes, (1, -2, 3, 5), values, strict=True))
    seen = set()
    # interpreted kernels take their time
    for order in list(permutations(rows))[:: 9 if engine.name == "triton" else 1]:
        order_dtypes, weights, sources = zip(*order, strict=True)
        mean = WeightedMean(order_dtypes, weights, DType.F64, allow_nonfinite=True)
        seen.add(outcome(engine, mean, sources, 0, 1))

    assert 1 == len(seen)


def exact_sums(mean, sources):
    """The weighted sum of each element, as a fraction."""
    widths = [dtype.bits // 8 for dtype in mean.dtypes]
    rows = [
        [
            decode(int.from_bytes(source[place : place + width], "little"), dtype)
            for place in range(0, len(source), width)
        ]
        for source, width, dtype in zip(sources, widths, mean.dtypes, strict=True)
    ]
    return [
        sum((weight * value for weight, value in zip(mean.weights, column, strict=True)), 0)
        for column in zip(*rows, strict=True)
    ]


def expand(engine, mean, sources, start=0, stop=None):
    """The planes of the sums, as floats."""
    count = len(sources[0]) * 8 // mean.dtypes[0].bits if stop is None else stop
    views = [memoryview(source) for source in sources]
    first = memoryview(bytearray((count - start) * 8))
    planes = [first, *engine.prepare_sum(mean, views)(start, count, first)]
    return [list(plane.cast("d")) for plane in planes]


def nearest_planes(totals):
    """The planes that the contract asks for."""
    planes = []
    while not planes or any(totals):
        codes = [encode(Fraction(total), DType.F64) for total in totals]
        planes.append([struct.unpack("<d", code.to_bytes(8, "little"))[0] for code in codes])
        totals = [total - Fraction(value) for total, value in zip(totals, planes[-1], strict=True)]
    return planes


def test_a_sum_that_a_float64_holds_is_one_plane(engine):
    mean = WeightedMean((DType.F16, DType.BF16), (3, -1), DType.F16)
    sources = [patterns(DType.F16, [1, 0, -2]), patterns(DType.BF16, [1, 0, 4])]

    assert [[2.0, 0.0, -10.0]] == expand(engine, mean, sources)


def test_the_sign_of_a_sum_of_nothing_is_plus(engine):
    mean = WeightedMean((DType.F32, DType.F32), (1, 1), DType.F32)
    minus_zero = struct.pack("<f", -0.0)

    assert struct.pack("<d", 0.0) == struct.pack(
        "<d", expand(engine, mean, [minus_zero, minus_zero])[0][0]
    )


def test_the_remainder_of_a_float64_is_in_the_next_plane(engine):
    mean = WeightedMean((DType.F64, DType.F32, DType.F64), (1, 1, 1), DType.F32)
    sources = [
        patterns(DType.F64, [1.5, 2.0**100]),
        patterns(DType.F32, [0, 1.0]),
        patterns(DType.F64, [0, 2.0**-100]),
    ]

    assert [[1.5, 2.0**100], [0.0, 1.0], [0.0, 2.0**-100]] == expand(engine, mean, sources)


def test_the_weights_of_a_sum_may_add_up_to_nothing(engine):
    mean = WeightedMean((DType.F16, DType.F16), (1, -1), DType.F16)

    assert [[-1.0]] == expand(engine, mean, [patterns(DType.F16, [1]), patterns(DType.F16, [2])])


@pytest.mark.parametrize("bad", [0x7C00, 0xFC00, 0x7E00])
def test_a_sum_of_nonfinite_values_is_refused(engine, bad):
    good = patterns(DType.F16, [1, 1, 1])
    spoilt = good[:4] + bad.to_bytes(2, "little")
    mean = WeightedMean((DType.F16, DType.F16), (1, 1), DType.F16)

    with pytest.raises(NonFinite) as refused:
        expand(engine, mean, [good, spoilt], start=1)
    assert (1, 2) == (refused.value.source, refused.value.element)


def test_a_sum_beyond_float64_is_refused(engine):
    huge = patterns(DType.F64, [0, LARGEST_DOUBLE])
    mean = WeightedMean((DType.F64, DType.F64), (1, 1), DType.F64)

    with pytest.raises(OutOfRange) as refused:
        expand(engine, mean, [huge, huge])
    assert 1 == refused.value.element


@pytest.mark.parametrize("dtypes", [("F16",) * 3, ("BF16", "F32"), ("F32",) * 9, ("F64", "F16")])
@pytest.mark.parametrize("spread", ["all", "near"])
def test_sums_are_exact_whatever_the_bits(engine, dtypes, spread):
    """Random bit patterns, and such whose exponents are near each other."""
    numbers = Random(f"{dtypes}{spread}")
    dtypes = tuple(map(DType, dtypes))
    weights = tuple(numbers.choice([1, 2, -3, 700001]) for _ in dtypes)
    count = 12 if engine.name == "reference" else 3000
    sources = [
        b"".join(
            _random_code(numbers, dtype, spread).to_bytes(dtype.bits // 8, "little")
            for _ in range(count)
        )
        for dtype in dtypes
    ]
    mean = WeightedMean(dtypes, weights, DType.F32)

    assert nearest_planes(exact_sums(mean, sources)) == expand(engine, mean, sources)


def _random_code(numbers, dtype, spread):
    if spread == "near":
        return encode(Fraction(numbers.gauss(0, 0.02)), dtype)
    largest = encode(dtype.float_format.largest, dtype) // 2
    return numbers.randrange(largest) + numbers.choice([0, 1 << (dtype.bits - 1)])


def test_a_mean_may_have_a_divisor_of_its_own(engine):
    mean = WeightedMean((DType.F64, DType.F16), (1, -2), DType.F16, divisor=6)
    sources = [patterns(DType.F64, [14, 5]), patterns(DType.F16, [1, 1])]

    assert patterns(DType.F16, [2, 0.5]) == combine(engine, mean, sources)


def test_float32_holds_some_sums_and_not_others(engine):
    held = patterns(DType.F64, [0, 1.5, -(2.0**-149), 2.0**127])
    too_fine = patterns(DType.F64, [0, 1 + 2.0**-24, 0, 0])
    too_small = patterns(DType.F64, [2.0**-150, 0, 0, 0])
    too_large = patterns(DType.F64, [0, 0, 0, 2.0**128])
    out = memoryview(bytearray(16))

    assert engine.narrow(memoryview(held), out)
    assert patterns(DType.F32, [0, 1.5, -(2.0**-149), 2.0**127]) == out
    for each in (too_fine, too_small, too_large):
        assert not engine.narrow(memoryview(each), out)
