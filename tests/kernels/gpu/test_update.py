"""Kept sums stay exact or say that they do not, and give the means that a new soup would have."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from runs import CPU, UNTOUCHED, blank, finite, integers, pack, usual

from soupctl.engines.contract import WeightedMean
from soupctl.engines.grouping import output_format
from soupctl.engines.reference import decode, encode
from soupctl.engines.splitting import NARROW_DIVISOR, split_weight
from soupctl.format.dtypes import FLOATS, DType
from soupctl.kernels.gpu import layout, reference, update

COUNT = 1500
NARROW = [dtype for dtype in FLOATS if dtype is not DType.F64]


class Kept:
    """Sums by kernel and by reference, which have to agree at every step."""

    def __init__(self, planes, out):
        self.planes = [torch.zeros(planes, COUNT, dtype=torch.float64) for _ in range(2)]
        self.out = [blank(COUNT, out.bits // 8) for _ in range(2)]
        self.format = out

    def add(self, dtype, source, weight, divisor, marks=(0, 0), rounds=True):
        """Add a row; the marks of the two blocks."""
        weights = split_weight(weight, dtype)
        table = layout.weight_table(weights, divisor)
        power = divisor & (divisor - 1) == 0
        config = layout.UpdateConfig(
            dtype.value,
            len(self.planes[0]),
            output_format(self.format),
            power,
            divisor > NARROW_DIVISOR,
            len(weights),
        )
        out = self.out if rounds else [None, None]
        config = config if rounds else replace(config, out=None)
        row = integers(source, dtype.bits // 8)
        found = [torch.tensor(marks, dtype=torch.int8) for _ in range(2)]
        update.launch_update(
            config, self.planes[0], row, torch.tensor(table, dtype=torch.float64), out[0], found[0]
        )
        reference.update(config, self.planes[1], row, table, out[1], found[1])

        assert torch.equal(*(planes.view(torch.int64) for planes in self.planes))
        assert torch.equal(*self.out)
        assert torch.equal(*found)
        return found[0].tolist()

    @property
    def sums(self):
        """What the planes hold, as fractions."""
        return [sum(map(Fraction, column)) for column in zip(*self.planes[0].tolist(), strict=True)]

    @property
    def means(self):
        return self.out[0].numpy().tobytes()


def values_of(dtype, source):
    """The elements of a row, as fractions."""
    width = dtype.bits // 8
    codes = [source[place : place + width] for place in range(0, len(source), width)]
    return [decode(int.from_bytes(code, "little"), dtype) for code in codes]


def mean(spec, sources):
    out = bytearray(COUNT * spec.out.bits // 8)
    CPU.prepare(spec, [memoryview(source) for source in sources])(0, COUNT, memoryview(out))
    return bytes(out)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_with_weights_of_any_length_are_exact_or_lost(dtype):
    sources = [usual(dtype, COUNT, seed) for seed in range(3)]
    weights = (123456789, 10**17 + 1, -(10**9))
    kept = Kept(2, dtype)
    for count in range(1, 4):
        total = sum(weights[:count])
        before = kept.sums
        marks = kept.add(dtype, sources[count - 1], weights[count - 1], total)
        spec = WeightedMean((dtype,) * count, weights[:count], dtype)
        values = values_of(dtype, sources[count - 1])
        after = [
            old + weights[count - 1] * value for old, value in zip(before, values, strict=True)
        ]
        if layout.LOST in marks:
            assert dtype in (DType.F32, DType.F64)
            return
        assert after == kept.sums
        if not any(marks):
            assert mean(spec, sources[:count]) == kept.means


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("dtype", NARROW)
def test_after_every_step_the_means_are_those_of_a_new_soup(dtype, planes):
    sources = [usual(dtype, COUNT, seed) for seed in range(4)]
    weights = (1, 3, 2, -1)
    kept = Kept(planes, dtype)
    for count in range(1, 5):
        total = sum(weights[:count])
        assert [0, 0] == kept.add(dtype, sources[count - 1], weights[count - 1], total)
        spec = WeightedMean((dtype,) * count, weights[:count], dtype)
        assert mean(spec, sources[:count]) == kept.means


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_removed_tensor_leaves_no_trace(dtype):
    sources = [finite(dtype, COUNT, seed) for seed in range(2)]
    kept = Kept(2, DType.F64)
    kept.add(dtype, sources[0], 5, 1, rounds=False)
    before = kept.planes[0].clone()
    marks = kept.add(dtype, sources[1], -7, 1, rounds=False)
    after = kept.planes[0].clone()
    kept.add(dtype, sources[1], 7, 1, marks, rounds=False)

    assert torch.equal(before.view(torch.int64), kept.planes[0].view(torch.int64))
    assert not torch.equal(before, after) or marks == [1, 1]


@pytest.mark.parametrize("out", FLOATS)
def test_a_mixture_is_summed_exactly(out):
    dtypes = [DType.F32, DType.F16, DType.F8_E4M3, DType.BF16, DType.F8_E5M2]
    kept = Kept(2, out)
    expected = [Fraction(0)] * COUNT
    for weight, dtype in enumerate(dtypes, start=1):
        source = usual(dtype, COUNT, weight)
        assert [0, 0] == kept.add(dtype, source, weight, 15)
        values = reference.widen(integers(source, dtype.bits // 8), dtype.value).tolist()
        expected = [
            old + weight * Fraction(value) for old, value in zip(expected, values, strict=True)
        ]
    spec = WeightedMean(tuple(dtypes), (1, 2, 3, 4, 5), out)

    assert expected == kept.sums
    assert mean(spec, [usual(dtype, COUNT, i) for i, dtype in enumerate(dtypes, 1)]) == kept.means


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.BF16])
def test_a_sum_that_planes_cannot_hold_is_marked_and_left_as_it_was(dtype, planes):
    held = [Fraction(2) ** (60 * plane) for plane in range(planes)]
    kept = Kept(planes, DType.F32)
    for value in held:
        kept.add(dtype, pack(dtype, [encode(value, dtype)] * COUNT), 1, 1)
    means = kept.means
    tiny = encode(Fraction(2) ** -60, dtype)
    marks = kept.add(dtype, pack(dtype, [0] * 1023 + [tiny] + [0] * (COUNT - 1024)), 1, 2)

    assert [layout.LOST, 0] == marks
    assert [sum(held)] * COUNT == kept.sums
    assert means[: 4 * 1024] == kept.means[: 4 * 1024]
    assert pack(DType.F32, [encode(sum(held) / 2, DType.F32)]) == kept.means[4 * 1024 :][:4]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("planes", [1, 2])
def test_nan_and_infinity_do_not_enter_a_sum(dtype, planes):
    odd = [dtype.float_format.quiet_nan, encode(float("inf"), dtype) or 0x7F]
    one = encode(Fraction(1), dtype)
    kept = Kept(planes, dtype)
    kept.add(dtype, pack(dtype, [one] * COUNT), 1, 1)
    for code in odd:
        assert [0, layout.LOST] == kept.add(dtype, pack(dtype, [one] * 1024 + [code] * 476), 1, 2)
        kept.add(dtype, pack(dtype, [one] * COUNT), -1, 1, marks=(0, layout.LOST))

    assert [1] * COUNT == kept.sums


def test_a_mean_beyond_its_format_is_marked_and_its_sum_kept():
    large = pack(DType.F32, [encode(Fraction(70000), DType.F32)] * 3 + [0] * (COUNT - 3))
    kept = Kept(1, DType.F16)

    assert [layout.UNROUNDED, 0] == kept.add(DType.F32, large, 1, 1)
    assert [70000] * 3 + [0] * (COUNT - 3) == kept.sums
    assert bytes([UNTOUCHED]) * 2048 == kept.means[:2048]
