"""Joining the parts of a soup: copied into the output, digested meanwhile, and removed.

Rule 1: the ledger comes of the digests in all records, exactly as that of a soup made at once.
Rule 2: every byte is digested while it is copied, and the soup appears only if all are those that
the parts recorded, and the inputs are unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...checkpoints.digest import Row, tensor_hasher
from ...errors import OutputError, UsageError
from ...frozen import frozen
from ...storage.descriptors import allow_files
from ...storage.lock import locked
from ...workers import Advance, ExecutionOptions, Scratch, run_in_order, tasks
from ..average import open_job
from ..chunks import Write
from ..job import ComponentJob, Job
from ..job_files import JobFiles, Results
from ..kept_sum.find import replaced_sum
from ..kept_sum.publish import remove_sum
from ..output import open_output
from ..preflight import refuse_input_as_output
from .divide import divided
from .found import FoundPart, open_parts, require_current
from .make import folder_beside, require_plain, stored_name
from .record import (
    damaged,
    drafted_rows,
    have_same_tensors,
    outcome_of,
    plan_digest,
    request_of,
    stamps_of,
)


@frozen
class PartedJob:
    """A soup whose parts are made, ready to be joined."""

    job: Job
    parts: tuple[FoundPart, ...]

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read from the parts."""
        return self.written

    @property
    def written(self) -> int:
        """Bytes of tensor data that will be copied."""
        return sum(component.written for component in self.job.components)


@contextmanager
def open_parted(output: str | Path) -> Iterator[PartedJob]:
    """The parts beside an output, and the inputs that they were made of, open and checked.

    Raises InputError for missing or damaged parts, MismatchError for parts of several plans or
    versions, OutputError for inputs that have changed, and what opening the inputs raises.
    """
    with open_parts(output) as parts:
        encoded = parts[0].record.request
        if encoded.get("output") != os.path.abspath(output):
            what = f"its parts were made for {encoded.get('output')}"
            raise UsageError(what, path=output, advice="name that output, or make them again")
        with open_job(request_of(parts[0].record, parts[0].file.path)) as job:
            require_plain(job)
            require_current(parts, plan_digest(encoded, job), stamps_of(job))
            yield parted_job(job, parts)


def parted_job(job: Job, parts: Sequence[FoundPart]) -> PartedJob:
    """A job with its current parts; InputError for one that has other tensors than it should."""
    _require_complete(job, parts)
    return PartedJob(job, tuple(parts))


def commit(
    parted: PartedJob, *, force: bool = False, execution: ExecutionOptions | None = None
) -> Results:
    """Join the parts into the soup, remove them, and return the result of each component.

    `force` replaces an existing output. Raises any child of SoupError; then there is no output, or
    the old one, and the parts are as they were.
    """
    job, path = parted.job, parted.job.destination.path
    assert path is not None
    refuse_input_as_output(job.destination, job.used, job.replaceable)
    execution = execution or ExecutionOptions()
    with ExitStack() as publishing:
        check = job.require_unchanged
        with open_output(job.destination, job.size, replace=force, check=check) as writer:
            files = JobFiles(job, writer)
            allow_files(job.open_files)
            files.create_files()
            for position, component in enumerate(job.components):
                _copy(parted, position, component, files.order(position).write, execution)
            rows = zip(*(part.record.components for part in parted.parts), strict=True)
            files.finish([*map(outcome_of, rows)])
            files.sync()
            publishing.enter_context(locked([Path(os.path.realpath(path)).parent]))
            old = replaced_sum(path) if force else None
        if old is not None:
            remove_sum(old)
    _remove_parts(parted, path)
    return files.results()


def _copy(
    parted: PartedJob,
    position: int,
    component: ComponentJob,
    write: Write,
    execution: ExecutionOptions,
) -> None:
    """Copy the tensors of a component; InputError for one that is not what was recorded."""
    scratch = Scratch()

    def copy(task: Sequence[tuple[FoundPart, Row]], advance: Advance) -> None:
        for part, row in task:
            name, *_, digest = row
            stored = part.stored(stored_name(component.inputs.name, name))
            hasher = tensor_hasher()
            for offset, piece in stored.pieces(scratch):
                hasher.update(piece)
                write(name, offset, piece)
                advance(2 * len(piece))
            if hasher.hexdigest() != digest:
                raise damaged(part.file.path, name)

    def size(each: tuple[FoundPart, Row]) -> int:
        part, (name, *_) = each
        return part.tensors[stored_name(component.inputs.name, name)].size

    every = ((part, row) for part in parted.parts for row in part.record.components[position].soup)
    for _ in run_in_order(copy, tasks(every, size), execution):
        pass


def _require_complete(job: Job, parts: Sequence[FoundPart]) -> None:
    """Raise InputError for a part that has not exactly the tensors that the plan gives it."""
    plans = divided(job.components, len(parts))
    for part, own in zip(parts, plans, strict=True):
        pairs = zip(job.components, own, strict=True)
        expected = [drafted_rows(component.sources, plan) for component, plan in pairs]
        names = {
            stored_name(component.inputs.name, name)
            for component, rows in zip(job.components, expected, strict=True)
            for name, *_ in rows.soup
        }
        found = part.record.components
        are_same = len(found) == len(expected) and all(map(have_same_tensors, found, expected))
        if part.tensors.keys() != names or not are_same:
            raise damaged(part.file.path)


def _remove_parts(parted: PartedJob, output: Path) -> None:
    """Remove the files of the parts, and their folder unless something else is in it."""
    folder = folder_beside(output)
    try:
        for part in parted.parts:
            part.file.path.unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.name.startswith(".") and path.name.endswith(".partial"):
                path.unlink(missing_ok=True)
    except OSError as error:
        problem = f"is written; its parts remain in {folder}: {error.strerror or error}"
        raise OutputError(problem, path=output) from error
    with suppress(OSError):
        folder.rmdir()
