"""Execution options and worker threads; nothing here can change a result.

Rule 1: results are taken in the order of their tasks, so the error reported is that of the first
failing task, whatever the number of threads.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field, replace
from itertools import accumulate, chain, islice
from threading import Event, local
from typing import TYPE_CHECKING, TypeVar

from .errors import LimitError, UsageError
from .frozen import frozen
from .pattern import pattern

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Task = TypeVar("Task")
Result = TypeVar("Result")
Item = TypeVar("Item")

Advance = Callable[[int], None]
"""Reports how many bytes were just read or written."""

MOST_THREADS = 16

TASK_BYTES = 1 << 20
"""Small tensors are handed to a thread together, about this many bytes at a time."""
MOST_TENSORS = 256
"""Tensors in one task, however small they are."""
ROW_BYTES = 512
"""Memory for a task's result for a tensor of one source: a row with its digest."""
FEW_TENSORS = 1000
FEW_BYTES = 1 << 16
"""Threads mostly wait for the interpreter where more than `FEW_TENSORS` have fewer bytes each."""
TASKS_A_THREAD = 5
"""Tasks per thread that are started or finished, but wait for earlier ones."""
LINE = 64
SMALLEST_SCRATCH = 1 << 20

DEVICE = pattern(r"auto|cpu|cuda(:[0-9]{1,3}(,[0-9]{1,3})*)?")
STAGING = 256 << 20
SHARE = 4
"""The share of a memory limit that staging may take: one part in this many."""
LIBRARIES = 160 << 20
"""Anonymous memory of the libraries that a device needs, without its driver's own."""


SPACE_TO_COMPUTE = 480 << 20
"""Address space of numpy, numba and LLVM before any computation, measured and rounded up."""
DATA_TO_COMPUTE = 120 << 20
"""Writable memory of these libraries and a thread, measured and rounded up."""
SPACE_OF_A_THREAD = 80 << 20
"""Address space of a thread's stack, and of the system allocator's reserve for it."""


@frozen
class ExecutionOptions:
    """Settings for speed and memory; none of them can change a byte of the result."""

    threads: int = field(default_factory=lambda: min(MOST_THREADS, available_cores()))
    chunk: int | None = None
    """Elements in a chunk; None to fit the cache."""
    progress: Callable[[int], None] = lambda size: None
    """Called with the number of bytes just read or written."""
    device: str = "auto"
    """What computes: `cpu`, `cuda`, `cuda:1`, or several GPUs, as in `cuda:0,1`.

    `auto` is the processor: between files it digests every byte anyway, and copying a byte to a
    device takes it about as long as averaging it.
    """
    max_memory: int | None = None
    """A limit in bytes on anonymous memory, for what is not known before the work; None for none.
    """
    staging: int = STAGING
    """Bytes of each GPU's memory, and as many of pinned memory for it, where GPUs compute."""

    def __post_init__(self) -> None:
        """Raise UsageError for settings that allow no work."""
        if self.threads < 1 or (self.chunk is not None and self.chunk < 1):
            raise UsageError("threads and chunk must be at least 1")
        gpus_of(self.device)

    @classmethod
    def on(cls, device: str, max_memory: int | None = None) -> ExecutionOptions:
        """Options for a device and `max_memory` bytes, of which staging takes a share.

        Several GPUs divide the share among them. Raises UsageError for an unknown device.
        """
        count = max(1, len(gpus_of(device)))
        staging = STAGING if max_memory is None else min(STAGING, max_memory // SHARE // count)
        return cls(device=device, max_memory=max_memory, staging=staging)

    @property
    def is_on_processor(self) -> bool:
        """Whether the processor computes."""
        return not self.gpus

    @property
    def gpus(self) -> tuple[int, ...]:
        """The numbers of the GPUs that compute; none where the processor does."""
        return gpus_of(self.device)

    @property
    def reserved_memory(self) -> int:
        """Bytes of anonymous memory that GPUs need in addition to the threads."""
        return 0 if self.is_on_processor else self.staging * len(self.gpus) + LIBRARIES


def gpus_of(device: str) -> tuple[int, ...]:
    """The numbers of the GPUs that a device names: 0 and 1 for `cuda:0,1`, none for `cpu`.

    Raises UsageError for an unknown device, and for a GPU that is named twice.
    """
    if not DEVICE.fullmatch(device):
        advice = "auto, cpu, cuda, cuda:N or cuda:N,M"
        raise UsageError(f"unknown device {device!r}", advice=advice)
    if device in ("auto", "cpu"):
        return ()
    _, _, listed = device.partition(":")
    gpus = tuple(map(int, listed.split(","))) if listed else (0,)
    for place, gpu in enumerate(gpus):
        if gpu in gpus[:place]:
            raise UsageError(f"device {device!r} names GPU {gpu} twice", advice="name each once")
    return gpus


class Scratch(local):
    """Memory that each thread reads into and computes in, kept from one tensor to the next."""

    def __init__(self) -> None:
        self._memory = bytearray()

    def parts(self, *sizes: int) -> list[memoryview]:
        """Parts of these sizes, each aligned for float64; they replace those given before."""
        places = [0, *accumulate(-(-size // LINE) * LINE for size in sizes)]
        if len(self._memory) < places[-1]:
            # the old memory is freed first, so that both are never held at once
            self._memory = bytearray()
            self._memory = bytearray(max(places[-1], SMALLEST_SCRATCH))
        view = memoryview(self._memory)
        return [view[place : place + size] for place, size in zip(places, sizes, strict=False)]


def tasks(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """The items in order, small ones together; `size` is the number of bytes that an item reads."""
    task: list[Item] = []
    total = 0
    for item in items:
        task.append(item)
        total += size(item)
        if total >= TASK_BYTES or len(task) >= MOST_TENSORS:
            yield task
            task, total = [], 0
    if task:
        yield task


def threads_for(execution: ExecutionOptions, tensors: int, size: int) -> ExecutionOptions:
    """The options for that many tensors of `size` bytes: with one thread if more do not help."""
    if tensors > FEW_TENSORS and size < FEW_BYTES * tensors:
        return replace(execution, threads=1)
    return execution


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_IS_NEEDED: ContextVar[Callable[[], bool]] = ContextVar("is_needed", default=lambda: True)


@contextmanager
def needed_while(is_needed: Callable[[], bool]) -> Iterator[None]:
    """Within the block, `require_needed` raises in this thread once `is_needed` is false."""
    token = _IS_NEEDED.set(is_needed)
    try:
        yield
    finally:
        _IS_NEEDED.reset(token)


def require_needed() -> None:
    """Raise CancelledError if nobody needs any more what this thread waits for."""
    if not _IS_NEEDED.get()():
        # imported late, because small files are read without threads
        from concurrent.futures import CancelledError  # noqa: PLC0415

        raise CancelledError


def run_in_order(
    run: Callable[[Task, Advance], Result], tasks: Iterable[Task], execution: ExecutionOptions
) -> Iterator[Result]:
    """The result of every task, in the order of the tasks, on as many threads as requested.

    `run` gets a task and a function to report progress with, which raises CancelledError once the
    pass has failed, so that other threads stop at once.
    """
    tasks = iter(tasks)
    first = [*islice(tasks, 2)]
    tasks = chain(first, tasks)
    threads = threads_in_room(execution.threads)
    if threads == 1 or len(first) < 2:
        for task in tasks:
            yield run(task, execution.progress)
        return
    yield from _run_on_threads(run, tasks, execution.progress, threads)


def _run_on_threads(
    run: Callable[[Task, Advance], Result], tasks: Iterable[Task], progress: Advance, threads: int
) -> Iterator[Result]:
    # imported late, because small files are read without threads
    from concurrent.futures import CancelledError, ThreadPoolExecutor  # noqa: PLC0415

    stopped = Event()

    def advance(size: int) -> None:
        if stopped.is_set():
            raise CancelledError
        progress(size)

    def run_while_needed(task: Task, advance: Advance) -> Result:
        with needed_while(lambda: not stopped.is_set()):
            return run(task, advance)

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="soupctl") as pool:
        try:
            for task in tasks:
                waiting.append(_submit(pool, run_while_needed, task, advance))
                # a bounded queue, so that neither tasks nor results pile up behind one large task
                if len(waiting) > (TASKS_A_THREAD - 1) * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor,
    run: Callable[[Task, Advance], Result],
    task: Task,
    advance: Advance,
) -> Future[Result]:
    try:
        return pool.submit(run, task, advance)
    except RuntimeError as error:
        # the system cannot start another thread
        raise LimitError(str(error), advice="--threads 1 needs none") from None


def require_room_to_compute() -> None:
    """Raise LimitError if a limit on memory is too low for the libraries that compute.

    They would otherwise end the process, some without a message. To be called before numpy is
    loaded.
    """
    for limit, needed, what, option in (
        (_limit(), SPACE_TO_COMPUTE, "address space", "-v"),
        (_limit(resource.RLIMIT_DATA), DATA_TO_COMPUTE, "memory for data", "-d"),
    ):
        if limit is None:
            continue
        # BLAS is not used to compute, but maps memory for each core
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        if limit < needed:
            problem = f"the limit on {what} is {limit} bytes, and at least {needed} are needed"
            raise LimitError(problem, advice=f"see ulimit {option}")


def threads_in_room(threads: int) -> int:
    """As many of `threads` as the limit on address space allows, at least one."""
    limit = _limit()
    return (
        threads
        if limit is None
        else max(1, min(threads, (limit - SPACE_TO_COMPUTE) // SPACE_OF_A_THREAD))
    )


def _limit(kind: int = resource.RLIMIT_AS) -> int | None:
    """The process's limit on address space, or on another kind of memory; None for no limit."""
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft
