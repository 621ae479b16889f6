"""A soup has the same bytes with a kept sum, whether its mean is made from the sum or the terms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import save
from revising import average

from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.format.dtypes import DType


@pytest.mark.parametrize(
    ("dtype", "count", "sorts"),
    [
        # two of 16 bits and four of 32 are short; more are rounded from the sum
        ("float16", 2, {DType.F16}),
        ("float16", 8, {DType.F16}),
        ("float16", 9, {DType.F64}),
        ("float32", 4, {DType.F32}),
        ("float32", 5, {DType.F64}),
    ],
)
def test_a_mean_is_made_from_what_is_read_faster(tmp_path: Path, monkeypatch, dtype, count, sorts):
    random = np.random.default_rng(count)
    paths = [tmp_path / f"{number}.st" for number in range(count)]
    for path in paths:
        # patterns of bits, so that there are ties, subnormals and distant exponents
        bits = random.integers(0, 1 << 14, 5000, np.uint16)
        save(path, w=bits.view(np.float16).astype(dtype))
    plain, with_sum = tmp_path / "plain.st", tmp_path / "with-sum.st"
    weighted = [(path, number + 1) for number, path in enumerate(paths)]
    average(plain, *weighted)
    prepared: set[DType] = set()
    prepare = CpuEngine.prepare

    def recording(self, mean: WeightedMean, *others):
        prepared.update(mean.dtypes)
        return prepare(self, mean, *others)

    monkeypatch.setattr(CpuEngine, "prepare", recording)

    average(with_sum, *weighted, keep_sum=True)

    assert plain.read_bytes() == with_sum.read_bytes()
    assert sorts == prepared
