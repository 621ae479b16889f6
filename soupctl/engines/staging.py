"""Means on a device: bytes are staged in pinned memory, uploaded, combined and downloaded.

Rule 1: a buffer's host memory is not touched between the first copy that is queued from it and the
wait after the last; while one buffer's work is running, another is filled or read.
Rule 2: a block that the device leaves in doubt is computed by the processor, from the sources.
Rule 3: a buffer is released only when no work is queued on it, also after an error; results are
collected in order, so the lowest failing element is reported.
Rule 4: of several devices, one makes all of a call, and each has its own buffers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Protocol

import numpy as np

from ..errors import LimitError
from ..frozen import frozen
from ..kernels.gpu.layout import MeanConfig, blocks_in
from .contract import Combine, WeightedMean
from .cpu import CpuEngine
from .grouping import GroupedMean, grouped_mean

LINE = 256
"""Alignment of rows, in bytes."""
AHEAD = 2
"""Buffers that one call keeps busy: one computing, one being filled or read."""
BUFFERS = 8
SMALLEST_BUFFER = 1 << 20


@frozen
class StagingLayout:
    """Byte offsets of all parts of a staging buffer, the same on host and device."""

    config: MeanConfig
    count: int
    """Elements of each source."""
    table: int
    rows: tuple[int, ...]
    out: int
    doubts: int
    sums: int
    """Only on the device; empty for a fused kernel."""
    end: int

    @classmethod
    def of(cls, grouped: GroupedMean, count: int) -> StagingLayout:
        """The layout of `count` elements of each source."""
        config = grouped.config
        table = aligned(8 * config.count)
        offset = aligned(table + 8 * len(grouped.table))
        rows = []
        for width in grouped.widths:
            rows.append(offset)
            offset = aligned(offset + count * width)
        doubts = aligned(offset + count * config.out.bits // 8)
        sums = aligned(doubts + blocks_in(count, config.block))
        end = sums if config.fused else sums + 24 * count
        return cls(config, count, table, tuple(rows), offset, doubts, sums, end)


class StagingBuffer(Protocol):
    """Pinned host memory, device memory of the same size, and a stream."""

    @property
    def host(self) -> memoryview:
        """The staging memory, writable bytes."""

    @property
    def address(self) -> int:
        """Address of the device memory."""

    def upload(self, stop: int) -> None:
        """Queue the copy of the first `stop` bytes to the device."""

    def launch(self, layout: StagingLayout) -> None:
        """Queue the kernels."""

    def download(self, start: int, stop: int) -> None:
        """Queue the copy of these bytes from the device."""

    def wait(self) -> None:
        """Wait for all queued work; LimitError if it failed."""


class Device(Protocol):
    """Allocates staging buffers."""

    @property
    def name(self) -> str:
        """Its name for users, such as `cuda:1`."""

    def buffer(self, size: int) -> StagingBuffer | None:
        """A buffer of `size` bytes; None if there is no memory for it."""


class BufferPool:
    """A bounded number of buffers, made when first needed, shared by all threads."""

    def __init__(self, device: Device, budget: int) -> None:
        # pinned memory is allocated in powers of two, so other sizes would take more
        self.size = max(1 << (budget // BUFFERS).bit_length() >> 1, SMALLEST_BUFFER)
        self._device = device
        self._most = max(1, budget // self.size)
        self._made = 0
        self._free: SimpleQueue[StagingBuffer] = SimpleQueue()
        self._lock = Lock()

    @contextmanager
    def borrow(self, most: int) -> Iterator[list[StagingBuffer]]:
        """Between one and `most` buffers, as many as are free; waits for the first.

        Raises LimitError if the device has no memory for one.
        """
        buffers = [self._next_free() or self._free.get()]
        try:
            while len(buffers) < most and (buffer := self._next_free()) is not None:
                buffers.append(buffer)
            yield buffers
        finally:
            for buffer in buffers:
                with suppress(LimitError):
                    buffer.wait()
                self._free.put(buffer)

    def _next_free(self) -> StagingBuffer | None:
        with suppress(Empty):
            return self._free.get_nowait()
        with self._lock:
            if self._made == self._most:
                return None
            buffer = self._device.buffer(self.size)
            while buffer is None and self._made == 0:
                if self.size <= SMALLEST_BUFFER:
                    what = f"{self._device.name} is out of memory"
                    raise LimitError(what, advice="--device cpu needs none")
                self.size //= 2
                buffer = self._device.buffer(self.size)
            if buffer is None:
                # continue with the buffers that exist
                self._most = self._made
            else:
                self._made += 1
            return buffer


class BufferPools:
    """The buffers of several devices, each with its own budget; shared by all threads."""

    def __init__(self, devices: Sequence[Device], budget: int) -> None:
        self._pools = [BufferPool(device, budget) for device in devices]
        self._waiting = [0] * len(devices)
        self._given = [0] * len(devices)
        self._lock = Lock()

    @contextmanager
    def least_busy(self, size: int) -> Iterator[BufferPool]:
        """The pool of the device with the least work at hand, which gets `size` bytes of it."""
        with self._lock:
            loads = [*zip(self._waiting, self._given, strict=True)]
            place = loads.index(min(loads))
            self._waiting[place] += size
            self._given[place] += size
        try:
            yield self._pools[place]
        finally:
            with self._lock:
                self._waiting[place] -= size


@frozen
class _Piece:
    """A range of elements whose work is queued."""

    buffer: StagingBuffer
    layout: StagingLayout
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.layout.count


class StagedCombine:
    """A prepared mean; see `Combine`."""

    def __init__(
        self, pools: BufferPools, mean: WeightedMean, sources: Sequence[memoryview]
    ) -> None:
        self._pools = pools
        self._mean = mean
        self._grouped = grouped_mean(mean)
        self._sources = sources
        self._rows = [np.frombuffer(sources[source], np.uint8) for source in self._grouped.order]
        self._width = mean.out.bits // 8
        self._exact: Combine | None = None

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> None:  # noqa: ARG002
        """Write elements `start` to `stop` of the mean into `out`.

        Raises NonFinite or OutOfRange for the lowest failing element, LimitError where the device
        fails or has no memory.
        """
        if start == stop:
            return
        size = (stop - start) * sum(self._grouped.widths)
        with self._pools.least_busy(size) as pool:
            self._combine_with(pool, start, stop, out)

    def _combine_with(self, pool: BufferPool, start: int, stop: int, out: memoryview) -> None:
        """Write these elements with the buffers of one device."""
        fewest_pieces = -(-(stop - start) // self._capacity(pool.size))
        with pool.borrow(min(AHEAD, fewest_pieces)) as buffers:
            # there may be less memory than estimated
            capacity = self._capacity(pool.size)
            pieces: deque[_Piece] = deque()
            for turn, offset in enumerate(range(start, stop, capacity)):
                if len(pieces) == len(buffers):
                    self._collect(pieces.popleft(), start, out)
                count = min(capacity, stop - offset)
                pieces.append(self._submit(buffers[turn % len(buffers)], offset, count))
            while pieces:
                self._collect(pieces.popleft(), start, out)

    def _capacity(self, size: int) -> int:
        """Elements that fit a buffer of `size` bytes, in whole blocks."""
        block = self._grouped.config.block
        one, two = (StagingLayout.of(self._grouped, count * block).end for count in (1, 2))
        blocks = size // (two - one)
        while blocks and StagingLayout.of(self._grouped, blocks * block).end > size:
            blocks -= 1
        if blocks == 0:
            what = f"{len(self._rows)} ingredients do not fit the device's share of memory"
            raise LimitError(what, advice="--device cpu has no such limit")
        return blocks * block

    def _submit(self, buffer: StagingBuffer, start: int, count: int) -> _Piece:
        """Load a buffer and queue its work."""
        layout = StagingLayout.of(self._grouped, count)
        host = np.frombuffer(buffer.host, np.uint8)
        places = [layout.rows[row] for row in self._grouped.rows]
        addresses = np.array([buffer.address + place for place in places], np.int64)
        put(host, 0, addresses.view(np.uint8))
        put(host, layout.table, np.array(self._grouped.table, np.float64).view(np.uint8))
        for row, offset, width in zip(self._rows, layout.rows, self._grouped.widths, strict=True):
            put(host, offset, row[start * width : (start + count) * width])
        buffer.upload(layout.out)
        buffer.launch(layout)
        buffer.download(layout.out, layout.sums)
        return _Piece(buffer, layout, start)

    def _collect(self, piece: _Piece, first: int, out: memoryview) -> None:
        """Wait for a buffer and unload it; doubtful elements are recomputed exactly."""
        piece.buffer.wait()
        layout, width = piece.layout, self._width
        host = np.frombuffer(piece.buffer.host, np.uint8)
        target = np.frombuffer(out, np.uint8)
        put(target, (piece.start - first) * width, host[layout.out :][: layout.count * width])
        block = layout.config.block
        doubts = host[layout.doubts :][: blocks_in(layout.count, block)]
        for doubtful in np.flatnonzero(doubts):
            start = piece.start + int(doubtful) * block
            stop = min(start + block, piece.stop)
            self._combine(start, stop, out[(start - first) * width : (stop - first) * width])

    @property
    def _combine(self) -> Combine:
        # prepared when first needed, because most tensors never need it
        if self._exact is None:
            self._exact = CpuEngine().prepare(self._mean, self._sources)
        return self._exact


def aligned(offset: int) -> int:
    """The offset rounded up to the alignment."""
    return -(-offset // LINE) * LINE


def put(target: np.ndarray, offset: int, data: np.ndarray) -> None:
    """Copy `data` to `offset`, while other threads run."""
    np.copyto(target[offset : offset + len(data)], data)
