"""Means that are made in float32 have the bits of those that are made in float64.

Rule 1: elements go one by one, so that none is made anew for the sake of another in its tile.
"""

import ctypes

import numpy as np
import pytest

from soupctl.engines import mean_tables
from soupctl.engines.contract import NonFinite, OutOfRange, WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.native import native_address
from soupctl.engines.reference import ReferenceEngine
from soupctl.format.dtypes import DType
from soupctl.kernels import tables

COUNT = 2000
WEIGHTS = [(1, 1), (1, 1, 1), (1, 2), (3, 7), (4096, -4095), (1, 4095), (-1, 3), (1,) * 5, (1,) * 8]
EXPONENTS = {DType.F16: (10, 30), DType.BF16: (7, 254)}


def any_patterns(generator, _dtype, rows):
    return generator.integers(0, 1 << 16, (rows, COUNT), dtype=np.uint16)


def neighbours(generator, _dtype, rows):
    near = generator.integers(-2, 3, (rows, COUNT))
    return (generator.integers(0, 1 << 16, COUNT) + near).astype(np.uint16)


def smallest(generator, _dtype, rows):
    signs = generator.integers(0, 2, (rows, COUNT)) << 15
    return (generator.integers(0, 0x0900, (rows, COUNT)) | signs).astype(np.uint16)


def like_magnitudes(generator, dtype, rows):
    fraction, most = EXPONENTS[dtype]
    exponents = generator.integers(0, most, COUNT) + generator.integers(-5, 6, (rows, COUNT))
    bits = np.clip(exponents, 0, most) << fraction | generator.integers(
        0, 1 << fraction, (rows, COUNT)
    )
    return (bits | generator.integers(0, 2, (rows, COUNT)) << 15).astype(np.uint16)


def prepared(mean, rows):
    mean_tables.mean_tables.cache_clear()
    return CpuEngine().prepare(mean, [memoryview(row.tobytes()) for row in rows])


def outcomes(combine, step, count=COUNT):
    """The result of each run of `step` elements: bytes, or the words of what is raised."""
    found = []
    for start in range(0, count, step):
        stop = min(count, start + step)
        out = bytearray(2 * (stop - start))
        try:
            combine(start, stop, memoryview(out))
        except (NonFinite, OutOfRange) as refused:
            found.append(f"{type(refused).__name__}: {refused}")
        else:
            found.append(bytes(out))
    return found


@pytest.mark.parametrize("drawn", [any_patterns, neighbours, smallest, like_magnitudes])
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("dtype", EXPONENTS)
def test_bits_are_the_same_in_both_arithmetics(dtype, weights, drawn, monkeypatch):
    rows = drawn(np.random.default_rng(len(weights)), dtype, len(weights))
    mean = WeightedMean((dtype,) * len(weights), weights, dtype)
    single = prepared(mean, rows)
    monkeypatch.setattr(tables, "SINGLE_WEIGHT", 0)
    double = prepared(mean, rows)
    mean_tables.mean_tables.cache_clear()

    assert single.table[tables.SINGLES]
    assert not double.table[tables.SINGLES]
    for step in (1, tables.TILE):
        assert outcomes(double, step) == outcomes(single, step)


@pytest.mark.parametrize("dtype", EXPONENTS)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_weights_as_models_have_them_are_proved_in_float32(dtype, count):
    values = np.random.default_rng(0).normal(0, 0.02, (count, COUNT)).astype(np.float32)
    # far from zero, where a sum of bf16 has more bits than a float32
    values += np.sign(values) * np.float32(0.001)
    bits = values.view(np.uint32) >> 16 if dtype is DType.BF16 else values.astype(np.float16)
    rows = bits.astype(np.uint16) if dtype is DType.BF16 else bits.view(np.uint16)

    left, out = called("mean_singles", dtype, rows, (1,) * count, count)

    assert left == 0
    assert out.all()


def called(name, dtype, rows, weights, divisor):
    """What a kernel returns for one tile, and the bits that it leaves."""
    places = np.array([row.ctypes.data for row in rows], np.int64)
    factors, tile = np.array(weights, np.float64), np.empty(tables.TILE_SCRATCH)
    out = np.zeros(tables.TILE, np.uint16)
    kernel = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 9)(
        native_address(f"singles.{name}", dtype.value)
    )
    first = (places.ctypes.data, factors.ctypes.data, len(rows), 0, tables.TILE)
    return kernel(*first, out.ctypes.data, 0, tile.ctypes.data, divisor), out


@pytest.mark.parametrize(
    "mean",
    [
        WeightedMean((DType.F16,) * 2, (1, 4097), DType.F16),
        WeightedMean((DType.F16,) * 2, (1, 1), DType.F32),
        WeightedMean((DType.F16, DType.BF16), (1, 1), DType.F16),
        WeightedMean((DType.F16,), (1,), DType.F16),
        WeightedMean((DType.F32,) * 2, (1, 1), DType.F32),
        WeightedMean((DType.F32, DType.F16), (3, -1), DType.F16),
        WeightedMean((DType.F32, DType.F16), (1, -1), DType.F16, divisor=4097),
        WeightedMean((DType.F32, DType.F16), (1, -1), DType.F32, divisor=2),
        WeightedMean((DType.F32, DType.BF16), (1, -1), DType.F16, divisor=2),
        WeightedMean((DType.F32, DType.F16, DType.F32), (1, -1, 1), DType.F16),
        WeightedMean((DType.F64, DType.F16), (1, -1), DType.F16, divisor=2),
    ],
    ids=str,
)
def test_other_means_are_not_made_in_float32(mean):
    rows = [np.zeros(4, np.uint32) for _ in mean.dtypes]

    assert not prepared(mean, rows).table[tables.SINGLES]


# sums that are kept as float32, with ingredients that are taken out of them or added

FEW = 600
# weights of the sum and of each ingredient, and the divisor
CHANGES = [
    ((1, -1), 7),
    ((1, -1), 8),
    ((2, -3), 3),
    ((4096, 4095), 4096),
    ((0, 5), 5),
    ((1, -1, -1), 6),
    ((-1, 1, 3, 4095), 4093),
    ((1, -1, 1, -1, 1), 11),
]


def to_bits(values, dtype):
    """Patterns of 16 bits near values of float64."""
    if dtype is DType.F16:
        return np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16)
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def to_values(bits, dtype):
    """The float64 values of patterns of 16 bits."""
    if dtype is DType.F16:
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def any_sums(generator, dtype, weights, _divisor):
    sums = generator.integers(0, 1 << 32, FEW, dtype=np.uint32)
    return [sums, *any_patterns(generator, dtype, len(weights) - 1)[:, :FEW]]


def tiny_sums(generator, _dtype, weights, _divisor):
    sums = generator.choice(np.array([0, 1, 2, 0x7F_FFFF, 0x80_0000, 0x80_0001], np.uint32), FEW)
    signs = generator.integers(0, 2, FEW, dtype=np.uint32) << 31
    small = np.array([0, 0x8000, 1, 0x8001], np.uint16)
    return [sums | signs, *generator.choice(small, (len(weights) - 1, FEW))]


def largest_sums(generator, dtype, weights, divisor):
    few = generator.integers(-300, 2, (len(weights) - 1, FEW))
    largest = 0x7BFF if dtype is DType.F16 else 0x7F7F
    signs = generator.integers(0, 2, (len(weights) - 1, FEW)) << 15
    rows = (largest + np.minimum(few, 0) | signs).astype(np.uint16)
    wanted = to_values(rows[0], dtype) * divisor
    return [summed_to(wanted, rows, dtype, weights), *rows]


def half_way_sums(generator, dtype, weights, divisor):
    """Such whose quotient is half-way between two values, or is as near to that as a float32 is."""
    most = 0x7800 if dtype is DType.F16 else 0x7F00
    low = generator.integers(0, most, FEW)
    low[::3] = generator.integers(0, 5, FEW)[::3]
    low = low.astype(np.uint16)
    half = (to_values(low, dtype) + to_values(low + np.uint16(1), dtype)) / 2
    near = (half * divisor).astype(np.float32).view(np.int32) + generator.integers(-2, 3, FEW)
    wanted = near.astype(np.int32).view(np.float32) * generator.choice([-1.0, 1.0], FEW)
    # the least are lost in the sum, which then seems to be half-way
    shares = generator.choice([0, 1, -1, 0.5, 2**-26, -(2**-26)], (len(weights) - 1, FEW))
    rows = to_bits(shares * wanted / max(map(abs, weights)), dtype)
    return [summed_to(wanted, rows, dtype, weights), *rows]


def summed_to(wanted, rows, dtype, weights):
    """The float32 patterns that make weighted sums come to what is wanted, or near it."""
    first, *others = weights
    left = wanted.astype(np.float64)
    for row, weight in zip(rows, others, strict=True):
        left = left - weight * to_values(row, dtype)
    return (left / (first or 1)).astype(np.float32).view(np.uint32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("drawn", [any_sums, tiny_sums, largest_sums, half_way_sums])
@pytest.mark.parametrize(("weights", "divisor"), CHANGES, ids=str)
@pytest.mark.parametrize("dtype", EXPONENTS)
def test_means_of_kept_sums_are_those_of_fractions(dtype, weights, divisor, drawn):
    rows = drawn(np.random.default_rng(divisor), dtype, weights, divisor)
    dtypes = (DType.F32, *[dtype] * (len(weights) - 1))
    mean = WeightedMean(dtypes, weights, dtype, divisor=divisor)
    combine = prepared(mean, rows)
    views = [memoryview(row.tobytes()) for row in rows]
    exact = outcomes(ReferenceEngine().prepare(mean, views), 1, FEW)

    assert combine.table[tables.SINGLES]
    assert exact == outcomes(combine, 1, FEW)
    if all(isinstance(each, bytes) for each in exact):
        assert [b"".join(exact)] == outcomes(combine, tables.TILE, FEW)


@pytest.mark.parametrize("dtype", EXPONENTS)
@pytest.mark.parametrize("removed", [1, 2, 3])
def test_sums_of_models_without_some_are_proved_in_float32(dtype, removed):
    values = np.random.default_rng(0).normal(0, 0.02, (8, COUNT))
    if dtype is DType.BF16:
        # so few exponents that a float32 holds the sum
        values = np.sign(values) * 0.01 + values / 8
    rows = to_bits(values, dtype)
    exact = to_values(rows, dtype).sum(axis=0)
    sums = exact.astype(np.float32)
    gone = rows[:removed]
    weights = (1, *[-1] * removed)

    left, out = called("mean_with_sum", dtype, [sums, *gone], weights, 8 - removed)
    again, means = called("mean_singles", dtype, rows[removed:], (1,) * (8 - removed), 8 - removed)

    assert (sums == exact).all()
    assert left == again == 0
    assert out.tolist() == means.tolist()
