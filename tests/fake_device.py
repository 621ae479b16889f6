"""A device of whose memory, order and failures tests may ask anything.

Rule 1: it does nothing before it is waited for, as a device may, so whatever is touched too early
comes out wrong.
"""

from dataclasses import dataclass, field

import torch

from soupctl.errors import LimitError
from soupctl.kernels.gpu import layout, reference

ADDRESS = 1 << 40
"""Where the memory of every slot begins, to the device."""


@dataclass
class FakeDevice:
    """A device that does as it is told, late; `log` is what was queued and waited for."""

    memory: int = 1 << 40
    """Bytes that it has for slots."""
    most: int = 1000
    """Slots that it gives before it breaks."""
    doubts: int = 0
    """Blocks that were left in doubt."""
    fails: int | None = None
    """The number of the wait that breaks off."""
    log: list[tuple[str, int]] = field(default_factory=list)
    slots: list["FakeSlot"] = field(default_factory=list)

    def slot(self, size):
        if len(self.slots) == self.most:
            raise LimitError("the device failed: it has had enough")
        if sum(len(slot.host) for slot in self.slots) + size > self.memory:
            return None
        self.slots.append(FakeSlot(self, len(self.slots), size))
        return self.slots[-1]


class FakeSlot:
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

    def launch(self, stowage):
        self.note("launch", lambda: self.compute(stowage))

    def compute(self, stowage):
        self.device.doubts += compute(self.memory, stowage)

    def download(self, start, stop):
        self.note("download", lambda: copy(self.host, self.memory, start, stop))

    def wait(self):
        if self.queue:
            self.note("wait")
        waits = sum(what == "wait" for what, _ in self.device.log)
        queue, self.queue = self.queue, []
        if self.device.fails is not None and waits >= self.device.fails:
            raise LimitError("the device failed: it was pulled out")
        for work in queue:
            work()


def copy(target, source, start, stop):
    target[start:stop] = source[start:stop]


def compute(memory, stowage):
    """What the kernels would do by the tables in the device's memory; the blocks in doubt."""
    form, count = stowage.form, stowage.count
    addresses = memory[: 8 * form.count].cast("q")
    assert [ADDRESS + row for row in stowage.rows] == list(addresses)
    table = memory[stowage.table :][: 8 * (form.count + 2)].cast("d")
    formats = [group.format for group in form.groups for _ in range(group.count)]
    rows = [
        integers(memory, row, count, layout.BITS[format])
        for row, format in zip(stowage.rows, formats, strict=True)
    ]
    out = integers(memory, stowage.out, count, form.out.bits)
    doubts = integers(memory, stowage.doubts, layout.blocks_in(count, form.block), 8)
    reference.mean(form, rows, list(table), out, doubts)
    return int(doubts.sum())


def integers(memory, start, count, bits):
    return torch.frombuffer(memory, dtype=layout.INTEGERS[bits], count=count, offset=start)
