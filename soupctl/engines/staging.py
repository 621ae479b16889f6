"""Means by way of a device: bytes are staged, carried over, combined there and carried back.

Rule 1: a slot's host memory is not touched between the first copy that is queued from it and the
wait after the last; while one slot's work is under way, another is loaded or unloaded.
Rule 2: a block that the device leaves in doubt is computed by the processor, from the sources.
Rule 3: a slot is handed on when nothing is at work in it any more, whatever happened; results are
taken in order, so the lowest failure is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Protocol

import numpy as np

from ..errors import LimitError
from ..kernels.gpu.layout import MeanConfig, blocks_in
from .contract import Combine, WeightedMean
from .cpu import CpuEngine
from .grouping import GroupedMean, grouped_mean

LINE = 256
"""Bytes that the beginnings of rows are multiples of."""
AHEAD = 2
"""Slots that one call keeps busy: one at work, one being loaded or unloaded."""
BUFFERS = 8
SMALLEST_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class StagingLayout:
    """Where everything lies in a slot, as byte offsets; the same on both sides."""

    form: MeanConfig
    count: int
    """Elements of each row."""
    table: int
    rows: tuple[int, ...]
    out: int
    doubts: int
    sums: int
    """Only on the device, and empty for a fused form."""
    end: int

    @classmethod
    def of(cls, shape: GroupedMean, count: int) -> StagingLayout:
        """The stowage of `count` elements of each row."""
        form = shape.form
        table = aligned(8 * form.count)
        place = aligned(table + 8 * len(shape.table))
        rows = []
        for width in shape.widths:
            rows.append(place)
            place = aligned(place + count * width)
        doubts = aligned(place + count * form.out.bits // 8)
        sums = aligned(doubts + blocks_in(count, form.block))
        end = sums if form.fused else sums + 24 * count
        return cls(form, count, table, tuple(rows), place, doubts, sums, end)


class StagingBuffer(Protocol):
    """A stretch of staging memory, one of a device's memory, and a queue of work on both."""

    @property
    def host(self) -> memoryview:
        """The staging memory, writable bytes."""

    @property
    def address(self) -> int:
        """Where the device's memory begins, to the device."""

    def upload(self, stop: int) -> None:
        """Queue the copy of the first `stop` bytes to the device."""

    def launch(self, stowage: StagingLayout) -> None:
        """Queue the kernels."""

    def download(self, start: int, stop: int) -> None:
        """Queue the copy of these bytes from the device."""

    def wait(self) -> None:
        """Return when all that was queued is done; LimitError if it cannot be."""


class Device(Protocol):
    """Where slots come from."""

    def slot(self, size: int) -> StagingBuffer | None:
        """A slot of `size` bytes; None if there is no memory for it."""


class BufferPool:
    """A bounded number of slots, made when first needed, shared by all threads."""

    def __init__(self, device: Device, budget: int) -> None:
        # pinned memory is given out in powers of two, so that anything else would take more
        self.size = max(1 << (budget // BUFFERS).bit_length() >> 1, SMALLEST_BUFFER)
        self._device = device
        self._most = max(1, budget // self.size)
        self._made = 0
        self._free: SimpleQueue[StagingBuffer] = SimpleQueue()
        self._lock = Lock()

    @contextmanager
    def taken(self, most: int) -> Iterator[list[StagingBuffer]]:
        """One slot, waited for, and up to `most` where more are free; LimitError without memory."""
        slots = [self._spare() or self._free.get()]
        try:
            while len(slots) < most and (slot := self._spare()) is not None:
                slots.append(slot)
            yield slots
        finally:
            for slot in slots:
                with suppress(LimitError):
                    slot.wait()
                self._free.put(slot)

    def _spare(self) -> StagingBuffer | None:
        with suppress(Empty):
            return self._free.get_nowait()
        with self._lock:
            if self._made == self._most:
                return None
            slot = self._device.slot(self.size)
            while slot is None and self._made == 0:
                if self.size <= SMALLEST_BUFFER:
                    raise LimitError(
                        "the device is out of memory", advice="--device cpu needs none"
                    )
                self.size //= 2
                slot = self._device.slot(self.size)
            if slot is None:
                # those that there are must do
                self._most = self._made
            else:
                self._made += 1
            return slot


@dataclass(frozen=True, slots=True)
class _Piece:
    """Elements that are on their way."""

    slot: StagingBuffer
    stowage: StagingLayout
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.stowage.count


class StagedCombine:
    """A prepared blend; see `Combine`."""

    def __init__(
        self, slots: BufferPool, blend: WeightedMean, sources: Sequence[memoryview]
    ) -> None:
        self._slots = slots
        self._blend = blend
        self._shape = grouped_mean(blend)
        self._sources = sources
        self._rows = [np.frombuffer(sources[source], np.uint8) for source in self._shape.order]
        self._width = blend.out.bits // 8
        self._exact: Combine | None = None

    def __call__(self, start: int, stop: int, out: memoryview) -> None:
        """Write elements `start` to `stop` of the mean into `out`.

        Raises NonFinite or OutOfRange for the lowest failing element, LimitError where the device
        fails or has no memory.
        """
        if start == stop:
            return
        pieces_at_best = -(-(stop - start) // self._capacity(self._slots.size))
        with self._slots.taken(min(AHEAD, pieces_at_best)) as slots:
            # memory may have been less than was hoped for
            capacity = self._capacity(self._slots.size)
            pieces: deque[_Piece] = deque()
            for turn, place in enumerate(range(start, stop, capacity)):
                if len(pieces) == len(slots):
                    self._land(pieces.popleft(), start, out)
                count = min(capacity, stop - place)
                pieces.append(self._send(slots[turn % len(slots)], place, count))
            while pieces:
                self._land(pieces.popleft(), start, out)

    def _capacity(self, size: int) -> int:
        """Elements that fit a slot of `size` bytes, in whole blocks."""
        block = self._shape.form.block
        blocks = size // (
            StagingLayout.of(self._shape, 2 * block).end - StagingLayout.of(self._shape, block).end
        )
        while blocks and StagingLayout.of(self._shape, blocks * block).end > size:
            blocks -= 1
        if blocks == 0:
            what = f"{len(self._rows)} ingredients do not fit the device's share of memory"
            raise LimitError(what, advice="--device cpu has no such limit")
        return blocks * block

    def _send(self, slot: StagingBuffer, start: int, count: int) -> _Piece:
        """Load a slot and queue its work."""
        stowage = StagingLayout.of(self._shape, count)
        host = np.frombuffer(slot.host, np.uint8)
        addresses = np.array([slot.address + row for row in stowage.rows], np.int64)
        put(host, 0, addresses.view(np.uint8))
        put(host, stowage.table, np.array(self._shape.table, np.float64).view(np.uint8))
        for row, place, width in zip(self._rows, stowage.rows, self._shape.widths, strict=True):
            put(host, place, row[start * width : (start + count) * width])
        slot.upload(stowage.out)
        slot.launch(stowage)
        slot.download(stowage.out, stowage.sums)
        return _Piece(slot, stowage, start)

    def _land(self, piece: _Piece, first: int, out: memoryview) -> None:
        """Wait for a slot and unload it; what is in doubt is computed again."""
        piece.slot.wait()
        stowage, width = piece.stowage, self._width
        host = np.frombuffer(piece.slot.host, np.uint8)
        target = np.frombuffer(out, np.uint8)
        put(target, (piece.start - first) * width, host[stowage.out :][: stowage.count * width])
        block = stowage.form.block
        doubts = host[stowage.doubts :][: blocks_in(stowage.count, block)]
        for doubtful in np.flatnonzero(doubts):
            start = piece.start + int(doubtful) * block
            stop = min(start + block, piece.stop)
            self._combine(start, stop, out[(start - first) * width : (stop - first) * width])

    @property
    def _combine(self) -> Combine:
        # prepared when first needed: most tensors never do
        if self._exact is None:
            self._exact = CpuEngine().prepare(self._blend, self._sources)
        return self._exact


def aligned(place: int) -> int:
    """The next beginning of a line."""
    return -(-place // LINE) * LINE


def put(target: np.ndarray, place: int, data: np.ndarray) -> None:
    """Copy `data` to `place`, while other threads run."""
    np.copyto(target[place : place + len(data)], data)
