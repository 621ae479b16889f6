"""Blends by kernel, by reference and by the processor's engine, to be compared."""

import random
from fractions import Fraction

import torch

from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.grouping import grouped_mean
from soupctl.engines.reference import encode, largest_code
from soupctl.kernels.gpu import layout, mean, reference

CPU = CpuEngine()
UNTOUCHED = 0x55
"""What every byte of an output is before anything is put there."""


def integers(raw, width):
    """The bytes as integers of `width` bytes, in memory of their own."""
    return torch.frombuffer(bytearray(raw), dtype=layout.INTEGERS[8 * width]) if raw else None


def blank(count, width):
    """An output that nothing was put into."""
    return integers(bytes([UNTOUCHED]) * (count * width), width)


def by_kernel(weighted_mean, sources, count, offset=0):
    """The mean and its doubts as kernels leave them; with rows that begin `offset` elements in."""
    grouped = grouped_mean(weighted_mean)
    found = [
        integers(bytes(offset * width) + sources[source], width)[offset:]
        for source, width in zip(grouped.order, grouped.widths, strict=True)
    ]
    rows = [found[row] for row in grouped.rows]
    out = blank(count + offset, weighted_mean.out.bits // 8)
    doubts = torch.full((layout.blocks_in(count, grouped.config.block),), 7, dtype=torch.int8)
    addresses = torch.tensor([row.data_ptr() for row in rows])
    table = torch.tensor(grouped.table, dtype=torch.float64)
    sums = None if grouped.config.fused else torch.empty(3, count, dtype=torch.float64)
    mean.launch_mean(grouped.config, addresses, table, out[offset:], doubts, sums)
    return out[offset:].numpy().tobytes(), doubts.tolist()


def by_reference(weighted_mean, sources, count):
    """The same by plain PyTorch."""
    grouped = grouped_mean(weighted_mean)
    found = [
        integers(sources[source], width)
        for source, width in zip(grouped.order, grouped.widths, strict=True)
    ]
    rows = [found[row] for row in grouped.rows]
    out = blank(count, weighted_mean.out.bits // 8)
    doubts = torch.full((layout.blocks_in(count, grouped.config.block),), 7, dtype=torch.int8)
    reference.mean(grouped.config, rows, grouped.table, out, doubts)
    return out.numpy().tobytes(), doubts.tolist()


def by_processor(weighted_mean, sources, count, doubts):
    """What the other two ought to leave: the engine's bytes, but where there is doubt."""
    grouped, width = grouped_mean(weighted_mean), weighted_mean.out.bits // 8
    out = bytearray([UNTOUCHED]) * (count * width)
    combine = CPU.prepare(weighted_mean, [memoryview(source) for source in sources])
    for block, doubtful in enumerate(doubts):
        start = block * grouped.config.block
        stop = min(start + grouped.config.block, count)
        if not doubtful:
            combine(start, stop, memoryview(out)[start * width : stop * width])
    return bytes(out)


def require_agreement(weighted_mean, sources, count):
    """The doubts of a weighted_mean, of which kernel, reference and processor agree."""
    kernel, doubts = by_kernel(weighted_mean, sources, count)

    assert set(doubts) <= {0, 1}
    assert by_processor(weighted_mean, sources, count, doubts) == kernel
    assert (kernel, doubts) == by_reference(weighted_mean, sources, count)
    return doubts


def pack(dtype, codes):
    """The bytes of bit patterns."""
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)


def finite(dtype, count, seed):
    """The bytes of any finite patterns, with those at the edges of the format more often."""
    numbers = random.Random(f"{dtype}{seed}")
    largest = largest_code(dtype.float_format)
    normal = 2 ** (dtype.float_format.precision - 1)
    one = encode(1, dtype)
    edges = [0, 1, 2, 3, normal - 1, normal, normal + 1, one - 1, one, one + 1, largest - 1]
    sign = 1 << (dtype.bits - 1)
    return pack(
        dtype,
        [
            (numbers.choice(edges) if numbers.random() < 0.3 else numbers.randint(0, largest))
            | numbers.choice([0, sign])
            for _ in range(count)
        ],
    )


def usual(dtype, count, seed):
    """The bytes of values that weights have: N(0, 0.02)."""
    numbers = random.Random(f"{dtype}{seed}")
    return pack(dtype, [encode(Fraction(numbers.gauss(0, 0.02)), dtype) for _ in range(count)])


def mean_of(dtypes, weights, out, divisor=None):
    """A weighted_mean of finite values."""
    return WeightedMean(tuple(dtypes), tuple(weights), out, divisor=divisor)
