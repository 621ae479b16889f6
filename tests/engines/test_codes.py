"""Codes with a scale are the exact mean over the scale, rounded once, on the worst patterns."""

import random
import struct
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soupctl.engines.contract import NonFinite, OutOfRange, Scales, WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.reference import ReferenceEngine, decode, encode, largest_code
from soupctl.format.dtypes import FLOATS, DType
from soupctl.kernels import tables

FAST, TRUE = CpuEngine(), ReferenceEngine()
E4M3, F64 = DType.F8_E4M3, DType.F64
LARGEST = Fraction(448)
SMALLEST_SCALE = 2.0**-126
WEIGHTS = [1, 2, 7, 1000, 2**24 + 1, 10**9, 2**53 - 1, 10**17, 2**60 + 3]


def single(value):
    """The float32 nearest to a value."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def scale_for(largest):
    return max(single(largest / 448), SMALLEST_SCALE) if largest else 1.0


def views(sources):
    return [memoryview(each) for each in sources]


def found(engine, mean, sources, count, scales=None, scale=None, origin=0):
    """The largest mean, the scale, the codes, and what the codes were made of; or a refusal."""
    try:
        largest = engine.prepare_largest(mean, views(sources), scales)(0, count, origin)
        scale = scale or scale_for(largest)
        out = bytearray(count)
        codes = engine.prepare_codes(mean, scale, views(sources), scales)
        sums = codes(0, count, memoryview(out), origin)
    except (NonFinite, OutOfRange) as refused:
        return f"{type(refused).__name__}: {refused}"
    assert sums.largest == largest
    return largest, scale, bytes(out)


def pack(dtype, codes):
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)


def rounded(dtype, values):
    return pack(dtype, [encode(Fraction(value), dtype) for value in values])


def patterns(dtype, finite):
    """Any pattern, with those at the edges of the format more often."""
    largest = largest_code(dtype.float_format)
    normal = 2 ** (dtype.float_format.precision - 1)
    one = encode(Fraction(1), dtype)
    # a float64 far outside of float32 has no scale
    most = encode(Fraction(2) ** 100, dtype) if dtype is F64 else largest
    edges = [0, 1, 2, normal - 1, normal, normal + 1, one - 1, one, one + 1, most - 1, most]
    magnitudes = st.sampled_from(edges) | st.integers(0, most)
    if not finite:
        magnitudes |= st.sampled_from([min(largest + 1, 2 ** (dtype.bits - 1) - 1)])
    return st.tuples(magnitudes, st.booleans()).map(
        lambda code: code[0] | code[1] << (dtype.bits - 1)
    )


@st.composite
def soups(draw, finite=True):
    """A mean of any dtypes, its sources, and scales of the narrowest."""
    count = draw(st.integers(1, 5))
    dtypes = [draw(st.sampled_from([*FLOATS])) for _ in range(count)]
    if draw(st.booleans()):
        dtypes = [dtypes[0]] * count
    weights = [draw(st.sampled_from(WEIGHTS)) * draw(st.sampled_from([1, 1, -1])) for _ in dtypes]
    if sum(weights) < 0:
        weights = [-weight for weight in weights]
    if not 0 < sum(weights) <= 2**62:
        weights = [1] * count
    length = draw(st.integers(1, 6))
    sources = [
        pack(each, draw(st.lists(patterns(each, finite), min_size=length, max_size=length)))
        for each in dtypes
    ]
    scales = draw(grids(dtypes, length)) if draw(st.booleans()) else None
    return WeightedMean(tuple(dtypes), tuple(weights), E4M3), sources, length, scales


def factors(dtype):
    """Factors of a source: float32s of either sign, zero, tiny, subnormal or large."""
    if dtype.bits > 8:
        return st.just(1.0)
    plain = st.floats(2.0**-20, 2.0**20, width=32)
    odd = st.sampled_from([0.0, -0.0, 1.0, 2.0**-149, 2.0**-126, single(1e-38), 2.0**90, -0.5])
    return plain | odd


@st.composite
def grids(draw, dtypes, length):
    columns = draw(st.integers(1, length))
    block = draw(st.integers(1, 3)), draw(st.integers(1, columns))
    # one more than the rows hold, as a chunk may begin anywhere
    blocks = (-(-(length + 9) // columns) // block[0] + 1) * -(-columns // block[1])
    values = [draw(factors(dtype)) for _ in range(blocks) for dtype in dtypes]
    return Scales(columns, block, memoryview(struct.pack(f"<{len(values)}d", *values)))


@settings(max_examples=300, deadline=None)
@given(soups(), st.integers(0, 9))
def test_codes_and_scales_are_those_of_fractions(soup, origin):
    assert found(TRUE, *soup, origin=origin) == found(FAST, *soup, origin=origin)


@settings(max_examples=200, deadline=None)
@given(soups(finite=False))
def test_what_is_not_finite_is_refused_alike(soup):
    assert found(TRUE, *soup) == found(FAST, *soup)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([*FLOATS]))
def test_ties_between_codes_are_decided_as_real_numbers(data, dtype):
    """Sums of few bits, over scales of few bits, lie on boundaries more often than not."""
    count = data.draw(st.integers(1, 3))
    weights = tuple(data.draw(st.sampled_from(WEIGHTS)) for _ in range(count))
    if sum(weights) > 2**62:
        weights = (1,) * count
    scale = single(data.draw(st.sampled_from([1, 3, 5, 2**24 - 1, 2**23 + 1])) * 2.0**-30)
    numbers = st.integers(-64, 64)
    columns = [data.draw(st.lists(numbers, min_size=9, max_size=9)) for _ in range(count)]
    unit = Fraction(1, 2**6) if dtype.bits == 8 else Fraction(scale) / 8
    sources = [pack(dtype, [encode(n * unit, dtype) for n in each]) for each in columns]
    most = max(abs(decode(code, dtype)) for each in sources for code in words(each, dtype))
    while most > 440 * Fraction(scale):
        scale *= 2
    soup = WeightedMean((dtype,) * count, weights, E4M3), sources, 9

    assert found(TRUE, *soup, scale=scale) == found(FAST, *soup, scale=scale)


def words(raw, dtype):
    width = dtype.bits // 8
    return [
        int.from_bytes(raw[place : place + width], "little") for place in range(0, len(raw), width)
    ]


MIDPOINTS = [
    (Fraction(decode(code, E4M3)) + Fraction(decode(code + 1, E4M3))) / 2 for code in range(126)
]


@pytest.mark.parametrize("total", [1, 2, 3, 2**24 - 3, 2**24 + 1, 2**40 + 1, 2**61 + 1])
@pytest.mark.parametrize("scale", [1.0, single(0.1), SMALLEST_SCALE, single(1e30), 2.0**-100 * 3])
def test_every_boundary_and_what_lies_just_beside_it(total, scale):
    """One source gives the boundary, which the total of the weights divides, another the side."""
    sides = (0, 1, -1)
    exact = [sign * each * Fraction(scale) for each in MIDPOINTS[:-1] for sign in (1, -1)]
    # the nearest float64 is on the boundary itself where that has few bits
    near = [Fraction(float(each)) for each in exact for _ in sides]
    small = [abs(each) * side / 2**70 for each in exact for side in sides]
    sources = [rounded(F64, near), rounded(F64, small)]
    mean = WeightedMean((F64, F64), (total, total), E4M3, divisor=total)
    soup = mean, sources, len(near)

    assert found(TRUE, *soup, scale=scale) == found(FAST, *soup, scale=scale)


@pytest.mark.parametrize("total", [2**24 - 3, 2**25 + 1, 2**40 + 1, 2**61 + 1])
@pytest.mark.parametrize("scale", [1.0, single(0.1), 2.0**-100 * 3])
def test_a_divisor_of_many_bits_moves_an_exact_sum_off_the_boundary(total, scale):
    exact = [sign * each * Fraction(scale) * total for each in MIDPOINTS[:-1] for sign in (1, -1)]
    sums = [Fraction(float(each)) for each in exact]
    soup = WeightedMean((F64,), (1,), E4M3, divisor=total), [rounded(F64, sums)], len(sums)

    assert found(TRUE, *soup, scale=scale) == found(FAST, *soup, scale=scale)


@pytest.mark.parametrize("far", [-1074, -1000, -300, -110])
@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize("weight", [1, 3, 2**22 + 1, 2**58 + 1])
def test_the_smallest_far_away_term_decides_a_tie(far, sign, weight):
    tiny = sign * Fraction(2) ** far
    columns = [[Fraction(17, 16), 448], [0, 0], [tiny, 0], [0, 0]]
    mean = WeightedMean((F64,) * 4, (weight, weight, 1, -1), E4M3, divisor=weight)
    sources = [rounded(F64, column) for column in columns]

    largest, _, codes = found(FAST, mean, sources, 2)
    assert 448.0 == largest
    assert rounded(E4M3, [Fraction(9, 8) if sign > 0 else 1, 448]) == codes


@pytest.mark.parametrize("length", [1, tables.TILE - 1, tables.TILE, 3 * tables.TILE + 7])
@pytest.mark.parametrize("dtypes", [(E4M3, E4M3), (DType.BF16, E4M3), (DType.F32,) * 3, (F64,)])
def test_chunks_and_tiles_do_not_show(dtypes, length):
    drawn = random.Random(length)
    sources = [
        rounded(dtype, [round(drawn.gauss(0, 1), 3) for _ in range(length)]) for dtype in dtypes
    ]
    mean = WeightedMean(dtypes, tuple(range(1, len(dtypes) + 1)), E4M3)
    largest, scale, codes = found(FAST, mean, sources, length)
    each = FAST.prepare_codes(mean, scale, views(sources))
    seek = FAST.prepare_largest(mean, views(sources))
    cuts = [0, length // 3, length // 2 + 1, length]
    out, most = bytearray(length), 0.0
    squares = means = 0.0
    for start, stop in pairwise(cuts):
        if stop > start:
            made = each(start, stop, memoryview(out)[start:stop])
            most = max(most, made.largest, seek(start, stop))
            squares, means = squares + made.squares, means + made.means
    true = TRUE.prepare_codes(mean, scale, views(sources))
    exact = true(0, min(length, 40), memoryview(bytearray(min(length, 40))))
    fast = each(0, min(length, 40), memoryview(bytearray(min(length, 40))))

    assert (largest, codes) == (most, bytes(out))
    assert float.hex(exact.largest) == float.hex(fast.largest)
    for one, other in ((exact.squares, fast.squares), (exact.means, fast.means)):
        assert round(one, 12) == round(other, 12)


def test_a_tensor_of_zeros_has_zeros_for_codes():
    mean = WeightedMean((E4M3, DType.F32), (1, 1), E4M3)
    sources = [b"\x00\x80\x00", bytes(12)]

    assert (0.0, 1.0, bytes(3)) == found(FAST, mean, sources, 3) == found(TRUE, mean, sources, 3)


def test_a_mean_beyond_the_largest_code_is_named():
    mean = WeightedMean((DType.F32,), (1,), E4M3)
    source = rounded(DType.F32, [1, 464, 465, 466])
    out = memoryview(bytearray(4))
    for engine in (FAST, TRUE):
        with pytest.raises(OutOfRange, match="element 2"):
            engine.prepare_codes(mean, 1.0, views([source]))(0, 4, out)
