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


def outcomes(combine, step):
    """The result of each run of `step` elements: bytes, or the words of what is raised."""
    found = []
    for start in range(0, COUNT, step):
        stop = min(COUNT, start + step)
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
    places = np.array([row.ctypes.data for row in rows], np.int64)
    weights, tile = np.ones(count), np.empty(tables.TILE_SCRATCH)
    out = np.zeros(tables.TILE, np.uint16)
    kernel = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 9)(
        native_address("singles.mean_singles", dtype.value)
    )
    first = (places.ctypes.data, weights.ctypes.data, count, 0, tables.TILE)

    left = kernel(*first, out.ctypes.data, 0, tile.ctypes.data, count)

    assert left == 0
    assert out.all()


@pytest.mark.parametrize(
    "mean",
    [
        WeightedMean((DType.F16,) * 2, (1, 4097), DType.F16),
        WeightedMean((DType.F16,) * 2, (1, 1), DType.F32),
        WeightedMean((DType.F16, DType.BF16), (1, 1), DType.F16),
        WeightedMean((DType.F16,), (1,), DType.F16),
        WeightedMean((DType.F32,) * 2, (1, 1), DType.F32),
    ],
    ids=str,
)
def test_other_means_are_not_made_in_float32(mean):
    rows = [np.zeros(4, np.uint32) for _ in mean.dtypes]

    assert not prepared(mean, rows).table[tables.SINGLES]
