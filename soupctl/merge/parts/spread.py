"""Soups that several workers make: each makes parts, and this process joins them.

Rule 1: a worker opens the same job as this process, and is refused unless it sees the same files.
Rule 2: parts of a run that was killed are used by the next run of the same request; a run that
fails removes its parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...checkpoints.digest import text_digest
from ...checkpoints.hashing import (
    Identities,
    ignore_progress,
    known_digests,
    remembering_digests,
)
from ...cluster.calls import CallNeeds
from ...cluster.workers import Workers
from ...errors import OutputError, SoupError, UsageError
from ...frozen import frozen
from ...storage.elsewhere import hint_at
from ...storage.lock import locked
from ...storage.place import refusing
from ...storage.reader import FileIdentity
from ...workers import ExecutionOptions
from ..job import Job
from ..job_files import Results
from ..preflight import refuse_input_as_output, require_free_place
from .commit import commit, parted_job
from .divide import PartOfPlan, number_of_parts
from .found import NAME, FoundPart, found_part, open_parts
from .make import folder_beside, name_of, planned_part, require_plain, write_part
from .record import Stamps, plan_digest, stamps_of

BUSY = 1.0
"""Seconds to wait for another process that uses the folder of parts."""


_DIGESTS: dict[Identities, str] = {}
"""The digests of files that a worker knows, from one part to the next."""


@frozen
class Opening:
    """A job that any process can open: a function of a module, and the request that it takes."""

    function: Callable[[Any], AbstractContextManager[Job]]
    request: Any

    @contextmanager
    def job(self) -> Iterator[Job]:
        """The job, open; digests that are computed meanwhile are remembered for workers."""
        with remembering_digests(), self.function(self.request) as job:
            yield job


@frozen
class PartTask:
    """A part that a worker makes."""

    opening: Opening
    part: PartOfPlan
    encoded: Mapping[str, Any]
    """What the record of the part holds in place of the request."""
    execution: ExecutionOptions
    digests: Mapping[Identities, str]
    """The digests of files that are known already."""


def make_on_workers(
    workers: Workers,
    opening: Opening,
    job: Job,
    *,
    force: bool = False,
    execution: ExecutionOptions | None = None,
    threads: int = 1,
) -> Results:
    """Make the parts of an open job on workers, join them, and return each component's result.

    A worker makes a part with so many `threads`; `execution` is for joining. `force` replaces an
    existing output. Raises any child of SoupError; then there is no output, or the old one.
    """
    execution = execution or ExecutionOptions()
    path = require_divisible(job)
    refuse_input_as_output(job.destination, job.used, job.replaceable)
    require_free_place(job.destination, force=force)
    # paths in it are relative to the folder
    asked = f"{opening.function.__qualname__} {Path.cwd()} {opening.request!r}"
    encoded = {"output": os.path.abspath(path), "asked": text_digest(asked)}
    plan, stamps = plan_digest(encoded, job), stamps_of(job)
    count = number_of_parts(job.components, workers.count)
    with _folder_of_parts(path) as folder:
        left = _unmade(folder, count, plan, stamps)
        each = replace(execution, threads=threads, progress=ignore_progress)
        tasks = [PartTask(opening, part, encoded, each, known_digests()) for part in left]
        for _, size in workers.call(make_part_of, tasks, _name, CallNeeds(threads)):
            execution.progress(size)
        with open_parts(path) as parts:
            _require_same_files(job, parts, plan, stamps)
            return commit(parted_job(job, parts), force=force, execution=execution)


def make_part_of(task: PartTask) -> int:
    """On a worker: make a part, and return the bytes that were read and written."""
    _DIGESTS.update(task.digests)
    with remembering_digests(_DIGESTS), task.opening.function(task.opening.request) as job:
        planned = planned_part(job, task.part, task.encoded)
        write_part(planned, task.execution)
        return planned.read + planned.written


def _name(task: PartTask) -> str:
    return f"{task.encoded['output']}: part {task.part}"


def require_divisible(job: Job) -> Path:
    """The output; UsageError for a job that workers cannot make parts of."""
    require_plain(job, "--ray")
    if job.destination.path is None:
        raise UsageError("--ray makes files, not a stream", advice="name one with -o")
    if job.destination.address is not None:
        what = "is an address, and workers make files on a shared disk"
        raise UsageError(what, path=job.destination.address.shown, advice="name one with -o")
    if job.keeps_sum:
        what = "--ray keeps no exact sum"
        raise UsageError(what, advice="--no-keep-sum, or leave out --ray")
    for component in job.used.components:
        for checkpoint in component.opened:
            for file in checkpoint.files:
                # an address on the hub names the commit
                if not isinstance(file.identity, FileIdentity) and hint_at(file.path) is None:
                    what = "is no file that workers can read"
                    raise UsageError(what, path=checkpoint.label, advice="leave out --ray")
    return job.destination.path


@contextmanager
def _folder_of_parts(output: Path) -> Iterator[Path]:
    """The folder of an output's parts, locked; gone unless this process is killed."""
    folder = folder_beside(output)
    with refusing(folder):
        folder.mkdir(exist_ok=True)
    try:
        with locked([folder], BUSY):
            try:
                yield folder
            except BaseException:
                _clear(folder)
                raise
    finally:
        with suppress(OSError):
            folder.rmdir()


def _clear(folder: Path) -> None:
    """Remove the parts in a folder, also those that are not finished."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _is_part(path.name):
                path.unlink(missing_ok=True)


def _is_part(name: str) -> bool:
    is_hidden = name.startswith(".") and name.endswith(".partial")
    return is_hidden or NAME.fullmatch(name) is not None


def _unmade(folder: Path, count: int, plan: str, stamps: Stamps) -> list[PartOfPlan]:
    """The parts that an earlier run of the same request has not made; others are removed."""
    every = {name_of(part): part for part in (PartOfPlan(n, count) for n in range(1, count + 1))}
    with refusing(folder):
        for path in folder.iterdir():
            if path.name in every and _is_current(path, every[path.name], plan, stamps):
                del every[path.name]
            elif _is_part(path.name):
                path.unlink(missing_ok=True)
    return list(every.values())


def _is_current(path: Path, part: PartOfPlan, plan: str, stamps: Stamps) -> bool:
    try:
        with found_part(path, part, ()) as found:
            return (found.record.plan, found.record.inputs) == (plan, stamps)
    except SoupError:
        return False


def _require_same_files(job: Job, parts: Sequence[FoundPart], plan: str, stamps: Stamps) -> None:
    """Raise OutputError unless all workers saw the files that this process sees."""
    job.require_unchanged()
    for each in parts:
        if (each.record.plan, each.record.inputs) != (plan, stamps):
            seen = {path: stamp for path, *stamp in each.record.inputs}
            other = [path for path, *stamp in stamps if seen.get(path) != stamp]
            what = "is another file for a worker than for this process"
            place = other[0] if other else each.file.path
            raise OutputError(what, path=place, advice="workers need a shared disk")
