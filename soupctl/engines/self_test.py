"""A small self-test of an engine: means of a few floats of every dtype, against the reference.

Rule 1: the test is the same on every machine; it knows no tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ..format.dtypes import FLOATS, DType
from .contract import Engine, WeightedMean
from .reference import ReferenceEngine, encode

COUNT = 96
"""Elements of each source."""
WEIGHTS = (3, -1, 2)
STEP = Fraction(1, 64)
LARGEST = 400
"""The largest multiple of `STEP`; every dtype has room for the means."""
PRIME = 7919
"""Spreads the multiples."""


def failures(engine: Engine) -> Iterator[str]:
    """The means that an engine does not compute as the reference does, such as `F16 to F32`."""
    for dtype in FLOATS:
        sources = [memoryview(_floats(dtype, place)) for place, _ in enumerate(WEIGHTS)]
        for out in FLOATS:
            mean = WeightedMean((dtype,) * len(WEIGHTS), WEIGHTS, out)
            if _computed(engine, mean, sources) != _computed(ReferenceEngine(), mean, sources):
                yield f"{dtype.value} to {out.value}"


def mean_count() -> int:
    """The number of means that `failures` computes."""
    return len(FLOATS) ** 2


def _computed(engine: Engine, mean: WeightedMean, sources: list[memoryview]) -> bytes:
    out = bytearray(COUNT * mean.out.bits // 8)
    engine.prepare(mean, sources)(0, COUNT, memoryview(out))
    return bytes(out)


def _floats(dtype: DType, place: int) -> bytes:
    """Floats of both signs, some of them zeros and subnormal; the same at each call."""
    sign = 1 << (dtype.bits - 1)
    codes = [0, sign, 1, sign | 1]
    while len(codes) < COUNT:
        multiple = (PRIME * len(codes) + (place + 1) ** 5) % (2 * LARGEST + 1) - LARGEST
        code = encode(STEP * multiple, dtype)
        codes.append(0 if code is None else code)
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)
