"""Several devices share the calls: none waits while another is idle, and each keeps its limit."""

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Event

import numpy as np
import pytest

from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.errors import LimitError
from soupctl.format.dtypes import DType

pytest.importorskip("torch")

import torch
from fake_device import FakeDevice

from soupctl.engines.triton import TritonEngine

MIB = 1 << 20
TWO = WeightedMean((DType.F16, DType.F16), (2, 1), DType.F16)
COUNT = 50_000


@pytest.fixture(scope="module")
def sources():
    numbers = np.random.default_rng(0)
    return [memoryview(numbers.normal(0, 1, COUNT).astype("<f2").tobytes()) for _ in range(2)]


def combined(engine, sources, start=0, stop=COUNT):
    out = bytearray(2 * (stop - start))
    engine.prepare(TWO, sources)(start, stop, memoryview(out))
    return bytes(out)


def launches(device):
    return sum(what == "launch" for what, _ in device.log)


def test_one_thread_gives_each_device_as_much(sources):
    devices = [FakeDevice(f"cuda:{gpu}") for gpu in range(3)]
    engine = TritonEngine(devices, MIB)
    made = [combined(engine, sources, start, start + 5000) for start in range(0, 45_000, 5000)]

    assert combined(CpuEngine(), sources, 0, 45_000) == b"".join(made)
    assert [3, 3, 3] == [*map(launches, devices)]


def test_a_device_that_is_busy_gets_no_more_work(sources):
    asked, may_go_on = Event(), Event()

    class Slow(FakeDevice):
        def buffer(self, size):
            asked.set()
            assert may_go_on.wait(60)
            return super().buffer(size)

    devices = [Slow("cuda:0"), FakeDevice("cuda:1")]
    engine = TritonEngine(devices, 4 * MIB)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(combined, engine, sources)
        assert asked.wait(60)
        made = [combined(engine, sources) for _ in range(4)]
        may_go_on.set()
        assert [combined(CpuEngine(), sources)] * 5 == [slow.result(), *made]

    assert [1, 4] == [*map(launches, devices)]


def test_each_device_keeps_its_own_limit(sources):
    devices = [FakeDevice("cuda:0"), FakeDevice("cuda:1")]
    engine = TritonEngine(devices, 3 * MIB)
    with ThreadPoolExecutor(12) as pool:
        made = [*pool.map(lambda _: combined(engine, sources), range(24))]

    assert [combined(CpuEngine(), sources)] * 24 == made
    for device in devices:
        assert 0 < sum(len(buffer.host) for buffer in device.buffers) <= 3 * MIB
        assert all(not buffer.queue for buffer in device.buffers)


def test_a_device_with_less_memory_shares_the_work(sources):
    devices = [FakeDevice("cuda:0"), FakeDevice("cuda:1", memory=MIB)]
    engine = TritonEngine(devices, 64 * MIB)
    made = [combined(engine, sources) for _ in range(4)]

    assert [combined(CpuEngine(), sources)] * 4 == made
    assert [8 * MIB, MIB] == [len(device.buffers[0].host) for device in devices]


def test_the_device_that_fails_is_named(sources):
    devices = [FakeDevice("cuda:2"), FakeDevice("cuda:3", fails=1)]
    engine = TritonEngine(devices, MIB)

    assert combined(CpuEngine(), sources) == combined(engine, sources)
    with pytest.raises(LimitError, match="cuda:3 failed"):
        combined(engine, sources)


def test_interpreted_kernels_share_the_work(interpreted_engine, sources):
    # the fixture skips where triton is not installed
    devices = import_module("soupctl.engines.devices")
    engine = TritonEngine([devices.TorchDevice("cpu"), devices.TorchDevice("cpu")], MIB)
    cuts = [(0, 20_000), (20_000, 20_001), (20_001, COUNT)]

    assert combined(CpuEngine(), sources) == b"".join(combined(engine, sources, *c) for c in cuts)


@pytest.mark.parametrize(
    ("count", "asked", "words"),
    [
        (2, [0, 5], "there is no GPU 5, only GPUs 0 to 1"),
        (1, [0, 1, 2], "there is no GPU 1, only GPU 0"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, count, asked, words):
    devices = pytest.importorskip("soupctl.engines.devices")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    with pytest.raises(LimitError, match=words):
        devices.open_devices(asked)
