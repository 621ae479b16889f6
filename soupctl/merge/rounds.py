"""Several jobs carried out together: what they share is read once.

Rule 1: every place is checked, and the disks have room for all outputs, before any is begun.
Rule 2: all outputs of a round are on disk before the first of them gets its name.
Rule 3: no exact sum is used or kept; that of a soup that is replaced goes after it.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..errors import InputError, MismatchError, OutputError, UsageError
from ..format.shards import MOST_SHARDS
from ..storage.files import require_room
from ..storage.place import refusing
from ..workers import ExecutionOptions
from .destination import refuse_inputs
from .engine import engine_of
from .executor import Order, execute_together, memory_needed
from .ingredients import Inputs, Part
from .job import ComponentResult, Job, Work, finish, place
from .kept_sum.find import replaced_sum
from .kept_sum.publish import remove
from .output import Sink, open_sink
from .preflight import require_free
from .preview import Preview, preview


@dataclass(frozen=True, slots=True)
class Rounds:
    """Jobs in the order in which they are carried out: those of one round at once."""

    rounds: tuple[tuple[Job, ...], ...]
    previews: tuple[Preview, ...]
    """What each job would do alone, in the same order."""
    threads: int
    memory: int
    """An upper estimate of anonymous memory; mapped input files are not in it."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs."""
        return tuple(job for some in self.rounds for job in some)

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read: what jobs of a round share counts once."""
        return sum(each.data_size for some in self.rounds for each in _checkpoints(some))

    @property
    def written(self) -> int:
        """Bytes of tensor data that will be written."""
        return sum(work.written for job in self.jobs for work in job.works)


def arrange(
    jobs: Sequence[Job],
    threads: int | None = None,
    max_memory: int | None = None,
    beside: int = 0,
) -> Rounds:
    """The jobs in as few rounds as open files and `max_memory` bytes allow, at least one in each.

    There are as many of `threads` as any job alone may have; LimitError if not even one fits.
    `beside` bytes are taken by something else.
    """
    previews = tuple(preview(job, threads, max_memory, beside) for job in jobs)
    threads = min(each.threads for each in previews)
    rounds: list[list[Job]] = [[]]
    for job in jobs:
        more = [*rounds[-1], job]
        small = max_memory is None or beside + _memory(more, threads) <= max_memory
        if rounds[-1] and not (small and sum(map(_files, more)) <= _most_files()):
            rounds.append([job])
        else:
            rounds[-1] = more
    memory = beside + max(_memory(some, threads) for some in rounds)
    return Rounds(tuple(map(tuple, rounds)), previews, threads, memory)


def _memory(jobs: Iterable[Job], threads: int) -> int:
    return memory_needed([work.plan for job in jobs for work in job.works], threads)


def _files(job: Job) -> int:
    """Descriptors that an output takes while it is written: of its files and of their folder."""
    return 1 + sum(len(work.share.files) for work in job.works)


def _most_files() -> int:
    """Half of the descriptors that the process may have, and no more than one output may take."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_SHARDS if soft == resource.RLIM_INFINITY else min(MOST_SHARDS, soft // 2)


def require_places(jobs: Sequence[Job], *, force: bool = False) -> None:
    """Raise OutputError for what any output would be refused for by what is there by now.

    That is an input of any job, the place of another output, an output that `force` does not
    replace, no folder around it, or disks without room for all. UsageError for standard output.
    """
    inputs = Inputs((), (Part("", _checkpoints(jobs), (), None),))
    places: dict[str, Path] = {}
    room: dict[int, int] = {}
    for job in jobs:
        target = _target(job)
        # for this job alone the soup may be replaced; but the others are made of it too
        refuse_inputs(job.destination, inputs)
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
    return job.destination.path


def carry_out_together(
    rounds: Rounds, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[tuple[ComponentResult, ...], ...]:
    """Make all outputs and return what each component of each became; they have equal components.

    Raises any child of SoupError. Each output appears whole or not at all, one after the other,
    in the order of the jobs; a failure before the first of a round has its name leaves none of that
    round. If giving a name fails, or the process is killed in between, the outputs before it stay,
    each complete and in its place, and of those after it there is nothing, or the old ones.
    """
    require_places(rounds.jobs, force=force)
    old = [replaced_sum(job.destination.path) if force else None for job in rounds.jobs]
    made: list[tuple[ComponentResult, ...]] = []
    for jobs in rounds.rounds:
        made += _carry_out(jobs, force, execution or ExecutionOptions(rounds.threads))
        for sums in filter(None, old[len(made) - len(jobs) : len(made)]):
            remove(sums)
    return tuple(made)


def _carry_out(
    jobs: Sequence[Job], force: bool, execution: ExecutionOptions
) -> list[tuple[ComponentResult, ...]]:
    """One round."""
    engine, execution = engine_of(execution)
    with ExitStack() as stack:
        # the last to be opened is the first to be published
        opened = [(_opened(stack, job, force), job) for job in reversed(jobs)][::-1]
        files = [_placed(sink, job) for sink, job in opened]
        made: list[list[ComponentResult]] = [[] for _ in jobs]
        for position, works in enumerate(zip(*(job.works for job in jobs), strict=True)):
            orders = [
                Order(work.plan, work.part.checkpoints, _writer(sink, job, position))
                for work, (sink, job) in zip(works, opened, strict=True)
            ]
            with _blaming(works):
                outcomes = execute_together(orders, engine, execution)
            for index, (work, (sink, job)) in enumerate(zip(works, opened, strict=True)):
                with refusing(_target(job)):
                    made[index].append(finish(sink, work, files[index][position], outcomes[index]))
        for job, components in zip(jobs, files, strict=True):
            with refusing(_target(job)):
                for fd in (fd for component in components for fd in component):
                    os.fsync(fd)
    return [tuple(each) for each in made]


@contextmanager
def _blaming(works: Sequence[Work]) -> Iterator[None]:
    """Where something is wrong with an input that is not the one that was promised, say that."""
    try:
        yield
    except (InputError, MismatchError):
        for work in works:
            work.require_sources()
        raise


def _opened(stack: ExitStack, job: Job, force: bool) -> Sink:
    check = job.require_unchanged
    return stack.enter_context(open_sink(job.destination, job.size, replace=force, check=check))


def _placed(sink: Sink, job: Job) -> list[list[int]]:
    with refusing(_target(job)):
        return place(sink, job)


def _writer(sink: Sink, job: Job, position: int) -> Callable[[str, int, memoryview], None]:
    """Puts bytes into one output, of which alone its refusals tell."""
    target = _target(job)

    def write(tensor: str, offset: int, data: memoryview) -> None:
        with refusing(target):
            sink.write(position, tensor, offset, data)

    return write


def _checkpoints(jobs: Iterable[Job]) -> tuple[Checkpoint, ...]:
    """All that the jobs are computed with, each once."""
    every = (each for job in jobs for work in job.works for each in work.part.checkpoints)
    return tuple({id(each): each for each in every}.values())
