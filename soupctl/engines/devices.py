"""GPUs through PyTorch: device memory, pinned memory and streams.

Rule 1: every failure of a device is a LimitError with advice.
Rule 2: the CPU is a device, too, so that all of this runs, interpreted, without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import torch
from triton.errors import TritonError
from triton.runtime import build

from ..errors import LimitError
from ..kernels.gpu.layout import DIVISOR_LENGTH, INTEGERS, blocks_in
from ..kernels.gpu.mean import launch_mean
from .staging import StagingLayout

# kernels are compiled at their first launch; the lock prevents a second compilation
LAUNCHING = Lock()

# compilation needs a C compiler, Python's headers, a writable cache and enough registers; the
# compiler's process and its errors are triton's own
FAULTS = (RuntimeError, TritonError, build.subprocess.SubprocessError, OSError)

NO_GPU = "--device cpu computes the same bytes"


class TorchDevice:
    """A device, by its PyTorch name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.device = torch.device(name)

    def buffer(self, size: int) -> TorchBuffer | None:
        """A buffer of `size` bytes; None if there is no memory for it."""
        try:
            return TorchBuffer(self.device, size)
        except torch.OutOfMemoryError:
            return None
        except RuntimeError as error:
            # failures to pin memory have no exception class, only a message
            if "out of memory" in str(error):
                return None
            raise fault(self.device, error) from error


class TorchBuffer:
    """A stretch of pinned memory, one of the device's, and a stream; see `Slot`."""

    def __init__(self, device: torch.device, size: int) -> None:
        self._device = device
        graphics = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if graphics else None
        # memory belongs to the stream in which it was allocated; another stream may still use it
        with torch.cuda.stream(self._stream):
            # first, because otherwise unused pinned memory would be kept
            self._memory = torch.empty(size, dtype=torch.uint8, device=device)
        self._staging = torch.empty(size, dtype=torch.uint8, pin_memory=graphics)
        self.host = memoryview(self._staging.numpy())
        self.address = self._memory.data_ptr()

    def upload(self, stop: int) -> None:
        """Queue the copy of the first `stop` bytes to the device."""
        with self._queued():
            self._memory[:stop].copy_(self._staging[:stop], non_blocking=True)

    def launch(self, layout: StagingLayout) -> None:
        """Queue the kernels."""
        config, count, memory = layout.config, layout.count, self._memory
        addresses = memory[: 8 * config.count].view(torch.int64)
        table = memory[layout.table :][: 8 * (config.count + DIVISOR_LENGTH)].view(torch.float64)
        width = config.out.bits // 8
        out = memory[layout.out :][: count * width].view(INTEGERS[config.out.bits])
        doubts = memory[layout.doubts :][: blocks_in(count, config.block)].view(torch.int8)
        sums = memory[layout.sums : layout.end].view(torch.float64).view(3, -1)
        with self._queued(), LAUNCHING:
            launch_mean(config, addresses, table, out, doubts, sums, aligned=True)

    def download(self, start: int, stop: int) -> None:
        """Queue the copy of these bytes from the device."""
        with self._queued():
            self._staging[start:stop].copy_(self._memory[start:stop], non_blocking=True)

    def wait(self) -> None:
        """Return when all that was queued is done; LimitError if it cannot be."""
        with self._queued():
            if self._stream is not None:
                self._stream.synchronize()

    @contextmanager
    def _queued(self) -> Iterator[None]:
        """Work on this buffer's stream; a failure is reported as the device's."""
        try:
            with torch.cuda.stream(self._stream):
                yield
        except torch.OutOfMemoryError as error:
            raise LimitError(f"{self._device} is out of memory", advice=NO_GPU) from error
        except FAULTS as error:
            raise fault(self._device, error) from error


def fault(device: torch.device, error: Exception) -> LimitError:
    """The LimitError for a failure of a device."""
    reason = str(error).strip().partition("\n")[0]
    return LimitError(f"{device} failed: {reason}", advice=NO_GPU)


def count_gpus() -> int:
    """The number of GPUs; LimitError if there is none."""
    if not torch.cuda.is_available():
        raise LimitError("no GPU was found", advice=NO_GPU)
    return torch.cuda.device_count()


def open_devices(gpus: Sequence[int]) -> list[TorchDevice]:
    """The GPUs of these numbers; LimitError if one is not there, or does not answer."""
    count = count_gpus()
    for gpu in gpus:
        if gpu >= count:
            found = f"GPUs 0 to {count - 1}" if count > 1 else "GPU 0"
            raise LimitError(f"there is no GPU {gpu}, only {found}", advice=NO_GPU)
    devices = []
    for gpu in gpus:
        device = TorchDevice(f"cuda:{gpu}")
        try:
            # fails here, and not later, if another process has exclusive use of the device
            torch.cuda.synchronize(gpu)
        except RuntimeError as error:
            raise fault(device.device, error) from error
        devices.append(device)
    return devices
