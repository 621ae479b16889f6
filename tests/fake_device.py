"""A device of whose memory, order and failures tests may ask anything.

Rule 1: it does nothing before it is waited for, as a device may, so whatever is touched too early
comes out wrong.
"""

from dataclasses import dataclass, field

import torch

from soupctl.errors import LimitError
from soupctl.kernels.gpu import layout, reference

ADDRESS = 1 << 40
"""Where the memory of every buffer begins, to the device."""


@dataclass
class FakeDevice:
    """A device that does as it is told, late; `log` is what was queued and waited for."""

    name: str = "cuda:0"
    memory: int = 1 << 40
    """Bytes that it has for buffers."""
    most: int = 1000
    """Buffers that it gives before it breaks."""
    doubts: int = 0
    """Blocks that were left in doubt."""
    fails: int | None = None
    """The number of the wait that breaks off."""
    log: list[tuple[str, int]] = field(default_factory=list)
    buffers: list["FakeBuffer"] = field(default_factory=list)

    def buffer(self, size):
        if len(self.buffers) == self.most:
            raise LimitError(f"{self.name} failed: it has had enough")
        if sum(len(buffer.host) for buffer in self.buffers) + size > self.memory:
            return None
        self.buffers.append(FakeBuffer(self, len(self.buffers), size))
        return self.buffers[-1]


class FakeBuffer:
    address = ADDRESS

    def __init__(self, device, number, size):
        self.device, self.number = device, number
        self.host = memoryview(bytearray(b"\xee") * size)
        self.memory = memoryview(bytearray(b"\xdd") * size)
        self.queue = []

    def note(self, what, work=None):
        self.device.log.append((what, self.number))
        if work is not None:
            self.queue.append(work)

    def upload(self, stop):
        self.note("upload", lambda: copy(self.memory, self.host, 0, stop))

    def launch(self, staging):
        self.note("launch", lambda: self.compute(staging))

    def compute(self, staging):
        self.device.doubts += compute(self.memory, staging)

    def download(self, start, stop):
        self.note("download", lambda: copy(self.host, self.memory, start, stop))

    def wait(self):
        if self.queue:
            self.note("wait")
        waits = sum(what == "wait" for what, _ in self.device.log)
        queue, self.queue = self.queue, []
        if self.device.fails is not None and waits >= self.device.fails:
            raise LimitError(f"{self.device.name} failed: it was pulled out")
        for work in queue:
            work()


def copy(target, source, start, stop):
    target[start:stop] = source[start:stop]


def compute(memory, staging):
    """What the kernels would do by the tables in the device's memory; the blocks in doubt."""
    config, count = staging.config, staging.count
    addresses = memory[: 8 * config.count].cast("q")
    assert [ADDRESS + row for row in staging.rows] == list(addresses)
    table = memory[staging.table :][: 8 * (config.count + layout.DIVISOR_LENGTH)].cast("d")
    formats = [group.format for group in config.groups for _ in range(group.count)]
    rows = [
        integers(memory, row, count, layout.BITS[format])
        for row, format in zip(staging.rows, formats, strict=True)
    ]
    out = integers(memory, staging.out, count, config.out.bits)
    doubts = integers(memory, staging.doubts, layout.blocks_in(count, config.block), 8)
    reference.mean(config, rows, list(table), out, doubts)
    return int(doubts.sum())


def integers(memory, start, count, bits):
    return torch.frombuffer(memory, dtype=layout.INTEGERS[bits], count=count, offset=start)
