"""The way over a device is right in its order, its memory and its failures: a fake one shows it."""

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from subprocess import CalledProcessError

import numpy as np
import pytest

from soupctl.engines.contract import NonFinite, WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.errors import LimitError
from soupctl.format.dtypes import DType

pytest.importorskip("torch")

from fake_device import FakeDevice

from soupctl.engines.grouping import grouped_mean
from soupctl.engines.staging import SMALLEST_BUFFER, StagingLayout
from soupctl.engines.triton import TritonEngine

MIB = 1 << 20


def sources_of(mean, count, seed=0):
    """Bytes with finite values of many sizes for every source."""
    numbers = np.random.default_rng(seed)
    return [
        memoryview(
            numbers.integers(0x30 << (dtype.bits - 8), 0x3C << (dtype.bits - 8), count)
            .astype(f"<i{dtype.bits // 8}")
            .tobytes()
        )
        for dtype in mean.dtypes
    ]


def combined(engine, mean, sources, start, stop):
    out = bytearray((stop - start) * mean.out.bits // 8)
    engine.prepare(mean, sources)(start, stop, memoryview(out))
    return bytes(out)


TWO = WeightedMean((DType.F16, DType.F16), (2, 1), DType.F16)
MIXED = WeightedMean((DType.F32, DType.F16, DType.BF16, DType.F64), (1, 1, 1, 3), DType.BF16)
MANY = WeightedMean((DType.BF16,) * 40, (1,) * 40, DType.F32)


@pytest.mark.parametrize("mean", [TWO, MIXED, MANY], ids=["two", "mixed", "many"])
@pytest.mark.parametrize("cut", [(0, 60_000), (17, 59_999), (3, 4)])
def test_the_bytes_are_those_of_the_processor(mean, cut):
    sources = sources_of(mean, 60_000)
    engine = TritonEngine([FakeDevice()], budget=4 * MIB)

    assert combined(CpuEngine(), mean, sources, *cut) == combined(engine, mean, sources, *cut)


def test_one_piece_is_loaded_while_another_is_at_work():
    device = FakeDevice()
    count = 700_000
    sources = [memoryview(bytes(2 * count))] * 2
    combined(TritonEngine([device], budget=8 * MIB), TWO, sources, 0, count)

    send = ["upload", "launch", "download"]
    work = [(what, buffer) for buffer in (0, 1) for what in send]
    for buffer in (0, 1, 0):
        work += [("wait", buffer), *((what, buffer) for what in send)]
    assert [*work, ("wait", 1), ("wait", 0)] == device.log


@pytest.mark.parametrize("budget", [MIB, 3 * MIB, 64 * MIB])
def test_no_more_memory_is_taken_than_was_given(budget):
    device = FakeDevice()
    count = 400_000
    sources = [memoryview(bytes(2 * count))] * 2
    engine = TritonEngine([device], budget)
    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda _: combined(engine, TWO, sources, 0, count), range(24)))

    assert [bytes(2 * count)] * 24 == results
    assert sum(len(buffer.host) for buffer in device.buffers) <= budget
    assert all(not buffer.queue for buffer in device.buffers)


@pytest.mark.parametrize("mib", [1, 10, 150, 256])
def test_buffers_are_of_sizes_in_which_pinned_memory_is_given_out(mib):
    device = FakeDevice()
    combined(TritonEngine([device], mib * MIB), TWO, sources_of(TWO, 9), 0, 9)

    expected = {1: 1, 10: 1, 150: 16, 256: 32}[mib]
    assert [expected * MIB] == [len(buffer.host) for buffer in device.buffers]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: unspecified launch failure\nand much more"),
        CalledProcessError(1, ["gcc", "main.c"]),
        PermissionError(13, "Permission denied", "/home/.triton"),
        "registers",
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_failure_of_a_launch_is_a_limit_error(interpreted_engine, monkeypatch, error):
    # the fixture skips where these are not installed
    devices = import_module("soupctl.engines.devices")
    if error == "registers":
        error = import_module("triton.runtime.errors").OutOfResources(
            300_000, 200_000, "shared memory"
        )

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(devices, "launch_mean", refuse)
    with pytest.raises(LimitError, match=r"cpu failed: .*device=cpu computes"):
        combined(interpreted_engine, TWO, sources_of(TWO, 9), 0, 9)


def test_threads_do_not_disturb_each_other():
    sources = sources_of(TWO, 30_000)
    expected = combined(CpuEngine(), TWO, sources, 0, 30_000)
    engine = TritonEngine([FakeDevice()], 3 * MIB)
    combine = engine.prepare(TWO, sources)
    out = bytearray(60_000)

    def work(start):
        stop = min(start + 1_237, 30_000)
        combine(start, stop, memoryview(out)[2 * start : 2 * stop])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(0, 30_000, 1_237)))
    assert expected == bytes(out)


def test_a_block_in_doubt_is_computed_by_the_processor():
    # two levels of residuals lose what the third would hold
    values = (2.0**120, 2.0**60, 0.5, -(2.0**120), -(2.0**60))
    mean = WeightedMean((DType.F64,) * 5, (1,) * 5, DType.F64)
    sources = [memoryview(np.full(4000, value).tobytes()) for value in values]
    device = FakeDevice()
    staged = combined(TritonEngine([device], MIB), mean, sources, 0, 4000)

    assert np.full(4000, 0.1).tobytes() == staged
    assert 4 == device.doubts


def test_the_lowest_failing_element_is_reported_and_no_work_is_left_running():
    count = 2_000_000
    spoilt = bytearray(2 * count)
    for element in (1_900_000, 700_001):
        spoilt[2 * element : 2 * element + 2] = b"\x00\x7e"
    device = FakeDevice()
    engine = TritonEngine([device], 8 * MIB)
    sources = [memoryview(bytes(2 * count)), memoryview(spoilt)]

    with pytest.raises(NonFinite, match="source 1, element 700001"):
        combined(engine, TWO, sources, 0, count)
    assert all(not buffer.queue for buffer in device.buffers)
    assert bytes(2000) == combined(engine, TWO, sources, 0, 1000)


def test_a_device_with_less_memory_is_given_less_at_a_time():
    device = FakeDevice(memory=3 * MIB)
    sources = sources_of(TWO, 60_000)
    engine = TritonEngine([device], budget=128 * MIB)

    assert combined(CpuEngine(), TWO, sources, 0, 60_000) == combined(
        engine, TWO, sources, 0, 60_000
    )
    assert [2 * MIB] == [len(buffer.host) for buffer in device.buffers[:1]]


def test_a_device_without_memory_is_refused():
    with pytest.raises(LimitError, match="out of memory"):
        combined(TritonEngine([FakeDevice(memory=MIB // 2)], MIB), TWO, sources_of(TWO, 9), 0, 9)


def test_more_ingredients_than_fit_are_refused():
    mean = WeightedMean((DType.F64,) * 200, (1,) * 200, DType.F64)
    sources = [memoryview(bytes(8))] * 200

    with pytest.raises(LimitError, match="200 ingredients do not fit"):
        combined(TritonEngine([FakeDevice()], SMALLEST_BUFFER), mean, sources, 0, 1)


@pytest.mark.parametrize("fails", [1, 2, 4])
def test_a_device_that_breaks_off_ends_every_call(fails):
    device = FakeDevice(fails=fails)
    engine = TritonEngine([device], 2 * MIB)
    count = 900_000
    sources = [memoryview(bytes(2 * count))] * 2
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(combined, engine, TWO, sources, 0, count) for _ in range(4)]

    failures = [call.exception() for call in calls]
    assert all(isinstance(failure, LimitError) for failure in failures)
    assert all(not buffer.queue for buffer in device.buffers)


def test_a_device_that_gives_no_second_buffer_hands_the_first_one_on():
    device = FakeDevice(most=1)
    engine = TritonEngine([device], 2 * MIB)
    sources = [memoryview(bytes(1_800_000))] * 2

    with pytest.raises(LimitError, match="enough"):
        combined(engine, TWO, sources, 0, 900_000)
    assert bytes(2000) == combined(engine, TWO, sources, 0, 1000)


@pytest.mark.parametrize("mean", [TWO, MIXED, MANY], ids=["two", "mixed", "many"])
def test_nothing_lies_where_something_else_does(mean):
    grouped = grouped_mean(mean)
    layout = StagingLayout.of(grouped, 5000)
    sizes = [5000 * width for width in grouped.widths]
    starts = [0, layout.table, *layout.rows, layout.out, layout.doubts, layout.sums]
    lengths = [8 * len(sizes), 8 * len(sizes) + 24, *sizes, 5000 * mean.out.bits // 8, 5]

    ends = [start + length for start, length in zip(starts, lengths, strict=False)]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert all(start % 256 == 0 for start in starts)
    assert layout.end == layout.sums + (0 if grouped.config.fused else 3 * 8 * 5000)
