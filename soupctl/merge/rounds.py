"""Several jobs carried out in rounds, within the limits on open files and memory.

Rule 1: all destinations and the disk space for all outputs are checked before the first is begun.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..errors import OutputError, UsageError
from ..format.shards import MOST_SHARDS
from ..frozen import frozen
from ..storage.descriptors import most_files
from ..storage.files import require_room
from ..storage.place import refusing
from .ingredients import ComponentInputs, Inputs
from .job import Job
from .memory import memory_needed
from .preflight import refuse_input_as_output, require_free
from .preview import Preview, preview
from .shared_content import distinct


@frozen
class Rounds:
    """Jobs in the order in which they are carried out, those of one round together."""

    rounds: tuple[tuple[Job, ...], ...]
    previews: tuple[Preview, ...]
    """The preview of each job alone, in the same order."""
    threads: int
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    memory: int
    """An upper estimate of anonymous memory, which does not include the system's cache of files."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs."""
        return tuple(job for some in self.rounds for job in some)

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read; data shared by jobs of a round counts once."""
        every = (distinct(_checkpoints(some)) for some in self.rounds)
        return sum(each.data_size for some in every for each in some)

    @property
    def written(self) -> int:
        """Bytes of tensor data that will be written."""
        return sum(each.written for job in self.jobs for each in job.components)


def arrange(
    jobs: Sequence[Job],
    threads: int | None = None,
    max_memory: int | None = None,
    reserved: int = 0,
) -> Rounds:
    """The jobs in as few rounds as open files and `max_memory` bytes allow, at least one in each.

    As many of `threads` are used as any job alone may have; LimitError if not even one fits.
    `reserved` bytes of the memory are used elsewhere.
    """
    previews = tuple(preview(job, threads, max_memory, reserved) for job in jobs)
    threads = min(each.threads for each in previews)
    chunk = min((each.chunk for each in previews if each.chunk is not None), default=None)
    rounds: list[list[Job]] = [[]]
    for job in jobs:
        more = [*rounds[-1], job]
        small = max_memory is None or reserved + _memory(more, threads, chunk) <= max_memory
        if rounds[-1] and not (small and sum(each.open_files for each in more) <= _most_files()):
            rounds.append([job])
        else:
            rounds[-1] = more
    memory = reserved + max(_memory(some, threads, chunk) for some in rounds)
    return Rounds(tuple(map(tuple, rounds)), previews, threads, chunk, memory)


def _memory(jobs: Sequence[Job], threads: int, chunk: int | None) -> int:
    return memory_needed(jobs, chunk).with_threads(threads)


def _most_files() -> int:
    """Half of the descriptors that the process may have, at most the files of one output."""
    most = most_files()
    return MOST_SHARDS if most is None else min(MOST_SHARDS, most // 2)


def require_places(jobs: Sequence[Job], *, force: bool = False) -> None:
    """Raise OutputError if any output cannot be written, judging by the files that exist now.

    It is for an input as output, two equal outputs, an existing output without `force`, a missing
    folder, and too little disk space for all. UsageError for standard output.
    """
    inputs = Inputs((), (ComponentInputs("", _checkpoints(jobs), (), None),))
    places: dict[str, Path] = {}
    room: dict[int, int] = {}
    for job in jobs:
        target = _target(job)
        # this job may replace the soup, but the other outputs are made from it too
        refuse_input_as_output(job.destination, inputs)
        require_free(job, force=force)
        other = places.setdefault(os.path.realpath(target), target)
        if other is not target:
            raise OutputError("would be written twice", path=target)
        with refusing(target):
            device = target.parent.stat().st_dev
            room[device] = room.get(device, 0) + job.size
            require_room(target, room[device], needs="needs, with the outputs before it,")


def _target(job: Job) -> Path:
    if job.destination.path is None:
        raise UsageError("standard output holds one soup, not several", advice="name files")
    if job.destination.address is not None:
        what = "is an address, and several soups are written to this disk only"
        raise UsageError(what, path=job.destination.address.shown, advice="name files")
    return job.destination.path


def _checkpoints(jobs: Iterable[Job]) -> tuple[Checkpoint, ...]:
    """All checkpoints of the jobs, each once."""
    every = (
        checkpoint
        for job in jobs
        for each in job.components
        for checkpoint in (*each.inputs.opened, *each.sums)
    )
    return tuple({id(each): each for each in every}.values())
