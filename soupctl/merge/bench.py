"""How fast files are read, hashed and averaged here, beside plain loops over the same bytes.

Rule 1: own work and plain loops take turns, and each figure is the median of all rounds.
Rule 2: all files are read once before, so that no round pays for a cold cache alone.
Rule 3: plain loops do only what cannot be left out: they read every byte with as many threads, and
write and sync as many as the average has.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from threading import local
from time import perf_counter

from ..checkpoints.hashing import content_digests
from ..checkpoints.open import STREAM, find_input
from ..errors import UsageError
from ..frozen import frozen
from ..storage.files import require_room, write_at
from ..storage.place import refusing
from ..storage.regular import reading
from ..workers import ExecutionOptions
from .average import Request, average, open_job

PIECE = 8 << 20
"""Bytes of a read or write of the plain loops."""
READ, HASH, WRITE, AVERAGE = "read", "hash", "write", "average"


@frozen
class MeasuredSpeed:
    """The time of one kind of work, and that of the plain loops."""

    work: str
    """`hash` or `average`; `read` and `write` are plain loops themselves."""
    size: int
    """Bytes that are read and written."""
    seconds: float
    plain: float
    """Seconds that the plain loops take for the same bytes."""

    @property
    def is_plain(self) -> bool:
        """Whether it is a plain loop itself."""
        return self.work in (READ, WRITE)

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds

    @property
    def share(self) -> float:
        """Its speed over that of the plain loops."""
        return self.plain / self.seconds


def measure_speed(
    paths: Sequence[str | Path],
    *,
    rounds: int = 3,
    folder: Path | None = None,
    execution: ExecutionOptions | None = None,
) -> tuple[MeasuredSpeed, ...]:
    """The speed of reading, writing, hashing and averaging these checkpoints.

    `folder` is where the average is written and removed again, by default that for temporary files.
    Raises UsageError for standard input or no rounds, and what `average` raises.
    """
    if rounds < 1:
        raise UsageError("a benchmark has at least one round", advice="rounds=3")
    if any(each == STREAM for each in paths):
        raise UsageError("standard input is read once, and a benchmark reads again")
    execution = execution or ExecutionOptions()
    files = [path for each in paths for part in find_input(each).components for path in part.files]
    place = folder or Path(tempfile.gettempdir())
    with refusing(place), tempfile.TemporaryDirectory(prefix="soupctl-bench-", dir=place) as made:
        output = Path(made, "soup")
        with open_job(Request(ingredients=paths, output=output)) as job:
            written, read = job.size, sum(path.stat().st_size for path in files)
        require_room(output, 2 * written)
        work: dict[str, Callable[[], object]] = {
            READ: lambda: _read(files, execution.threads),
            WRITE: lambda: _write(Path(made, "plain"), written),
            HASH: lambda: [content_digests(path, threads=execution.threads) for path in paths],
            AVERAGE: lambda: average(
                Request(ingredients=paths, output=output), force=True, execution=execution
            ),
        }
        work[READ]()
        times = _times(work, rounds)
    plain = {READ: times[READ], WRITE: times[WRITE], HASH: times[READ]}
    plain[AVERAGE] = times[READ] + times[WRITE]
    sizes = {READ: read, WRITE: written, HASH: read, AVERAGE: read + written}
    return tuple(MeasuredSpeed(each, sizes[each], times[each], plain[each]) for each in work)


def _times(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median of the seconds that each kind of work takes; they take turns."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            started = perf_counter()
            run()
            found[name].append(perf_counter() - started)
    return {name: median(seconds) for name, seconds in found.items()}


def _read(files: Sequence[Path], threads: int) -> None:
    """Read every byte of files, in pieces, with so many threads."""
    starts = [(path, start) for path in files for start in range(0, path.stat().st_size, PIECE)]
    buffers = local()

    def read(at: tuple[Path, int]) -> None:
        path, start = at
        if not hasattr(buffers, "buffer"):
            buffers.buffer = bytearray(PIECE)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.preadv(fd, [buffers.buffer], start)
        finally:
            os.close(fd)

    with reading(str(files[0])), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read, starts):
            pass


def _write(path: Path, size: int) -> None:
    """Write and sync a file of so many bytes, and remove it."""
    piece = memoryview(bytes(PIECE))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for start in range(0, size, PIECE):
            write_at(fd, piece[: size - start], start)
        os.fsync(fd)
    finally:
        os.close(fd)
        path.unlink()
