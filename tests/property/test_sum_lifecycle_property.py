"""Whatever is put into and taken out of an undivided sum, it is the exact sum of the rest."""

from __future__ import annotations

import json
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import pytest
from deltas import numbers, rounded
from hypothesis import settings
from hypothesis.stateful import initialize
from lives import NAMES, SIZE, KeptLife, Life, names, pool
from making import contents, metadata, save_raw
from revising import Weighted, average

from soupctl.format.dtypes import DType, narrowest

pytestmark = pytest.mark.timeout(900)


def smaller(dtype: DType, data: bytes) -> tuple[DType, bytes]:
    """The floats without the highest bit of their exponents, so that sums of a few are in range."""
    width = dtype.bits // 8
    every = bytearray(data)
    for place in range(width - 1, len(every), width):
        every[place] &= 0b10111111
    return dtype, bytes(every)


class SumLife(Life):
    """A sum of ingredients times their weights, which is not divided by the total."""

    @initialize(found=pool, first=names)
    def begin(self, found: list[tuple[DType, bytes]], first: str) -> None:
        super().begin([smaller(*each) for each in found], first)

    def average(self, output: Path, *pairs: Weighted) -> None:
        # what is put in whole is a mean: its ingredients count with their own weights
        is_mean = output.name == "other.st"
        average(output, *pairs, keep_sum=self.keep_sum, normalize=is_mean)

    def expected(self, held: dict[str, Fraction]) -> object:
        dtypes = [self.found[name][0] for name in held]
        out = narrowest(frozenset(dtypes))
        values = [Fraction(0)] * SIZE
        for name, weight in held.items():
            for place, value in enumerate(numbers(*self.found[name])):
                values[place] += weight * value
        data = rounded(values, out)
        assert data is not None
        return out.value, data


class KeptSumLife(SumLife, KeptLife):
    """The same from kept sums, without reading what stays."""

    def is_too_fine(self, before: Path, wanted: dict[str, Fraction]) -> bool:
        record: dict[str, Any] = json.loads(metadata(self.sum_of(before))["soupctl.sum"])
        changes = [wanted.get(name, 0) - self.held.get(name, 0) for name in NAMES]
        scale = Fraction(record["scale"])
        scale *= lcm(*((scale * change).denominator for change in changes))
        # the divisor of the sum is its scale
        return scale > 2**62 or super().is_too_fine(before, wanted)


class TestSumLife(SumLife.TestCase):
    """Any sequence of changes gives the bytes of one exact sum of what remains."""

    settings = settings(max_examples=8, stateful_step_count=8, deadline=None, derandomize=True)


class TestKeptSumLife(KeptSumLife.TestCase):
    """The same from kept sums."""

    settings = settings(max_examples=8, stateful_step_count=8, deadline=None, derandomize=True)


def test_the_sum_differs_from_the_mean(tmp_path: Path) -> None:
    """The walks would not see it if all of these weights added up to 1."""
    one = (0x3C00).to_bytes(2, "little")
    for name in "ab":
        save_raw(tmp_path / f"{name}.st", {"w": ("F16", (1,), one)})
    average(tmp_path / "out.st", tmp_path / "a.st", (tmp_path / "b.st", 2), normalize=False)

    assert (0x4200).to_bytes(2, "little") == contents(tmp_path / "out.st")["w"][2]
