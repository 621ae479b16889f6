"""The scale of a kept sum is as small as one of all ingredients anew would be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from keeping import FLOATS, forge, hide, save_pots, scale_of, sum_of
from making import contents
from revising import average, revise

from soupctl.choices import Method
from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.reference import ReferenceEngine
from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType
from soupctl.merge.exact_quotient import divided

SOUP, OUT = Path("soup.st"), Path("out.st")
ENGINES = (CpuEngine(), ReferenceEngine())


@pytest.fixture
def pots(tmp_path, monkeypatch):
    """Checkpoints a to e of mixed dtypes and far exponents, in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_pots()


def test_weights_that_come_and_go_leave_the_sum_as_it_was(pots):
    average(SOUP, "a.st", "b.st", keep_sum=True)
    scale, kept = scale_of(SOUP), contents(sum_of(SOUP))
    hide("a.st", "b.st")

    for prime in (3, 7, 13, 31, 101, 1009, 10007, 100003, 1000003, 10000019):
        weight = Fraction(1, prime)
        more = revise("add", SOUP, SOUP, [("c.st", weight), ("d.st", -weight / 2)], force=True)
        assert (Method.SUM, 2 * prime) == (more.method, scale_of(SOUP))
        less = revise("subtract", SOUP, SOUP, [], ["c.st", "d.st"], force=True)
        assert (Method.SUM, scale) == (less.method, scale_of(SOUP))
        assert kept == contents(sum_of(SOUP))


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_sum_is_divided_exactly_or_not_at_all(engine):
    generator = np.random.default_rng(7)
    values = generator.normal(0, 1, (3, 20)) * 2.0 ** generator.integers(-300, 300, (3, 20))
    for divisor in (2, 3, 6, 1009, 2**53 + 1, 2**62 - 1):
        kept = expanded(engine, values, 1)
        parts = expanded(engine, values, divisor)

        assert list(map(bytes, kept)) == list(map(bytes, divided(parts, divisor, engine)))
        if divisor % 2:
            assert divided(kept, divisor, engine) is None


def expanded(engine, values, weight: int) -> list[memoryview]:
    """The planes of the exact sum of rows of float64, each times the weight."""
    rows = [memoryview(row.tobytes()) for row in values]
    mean = WeightedMean((DType.F64,) * len(rows), (weight,) * len(rows), DType.F64, divisor=1)
    first = memoryview(bytearray(len(rows[0])))
    return [first, *engine.prepare_sum(mean, rows)(0, values.shape[1], first)]


def test_a_sum_with_values_that_its_scale_cannot_make_is_refused(pots):
    average(SOUP, "a.st", "b.st", ("c.st", "1/3"), keep_sum=True)
    path = sum_of(SOUP)
    forge(path, _add_to_half)

    with pytest.raises(LedgerError, match="are not the multiples of 3 that its scale makes them"):
        revise("subtract", SOUP, OUT, [], ["c.st"])
    assert not OUT.exists()


def _add_to_half(tensors) -> None:
    """Add a little to the first element of a plane."""
    dtype, shape, data = tensors["0:half"]
    values = np.frombuffer(data, FLOATS[dtype]).copy()
    values[0] = np.nextafter(values[0], np.inf, dtype=values.dtype)
    tensors["0:half"] = (dtype, shape, values.tobytes())
