"""Average checkpoints into a soup: open, plan, execute, record.

Rule 1: a `Request` holds all that decides the output's bytes; how fast it comes about is a `Pace`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ..execute import Pace, execute
from ..format.dtypes import DType
from ..format.header import encode_header
from ..format.index import encode_index
from ..soup.ledger import KEY, Ledger
from ..soup.ledgertext import encode_ledger
from ..soup.plan import Plan, make_plan
from ..soup.recipe import OnInt, Recipe
from ..storage.digest import text_digest
from .inputs import Ingredient, Inputs, Part, open_inputs
from .record import agreed_metadata, completed, draft, ingredient_names, require_ledgers_fit
from .sink import Sink, open_sink
from .target import Destination, Share, decide, refuse_inputs


@dataclass(frozen=True, slots=True)
class Request:
    """A soup to be made: everything that decides its bytes, and where it goes."""

    ingredients: Sequence[Ingredient]
    output: str | Path
    """A file, a folder, or `-` for standard output."""
    dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    on_int: OnInt = OnInt.REFUSE
    allow_nonfinite: bool = False
    component: str | None = None
    variant: str | None = None
    shard_size: int | None = None
    """Most bytes of data in one file of the output, which is then a folder."""
    ignore_ledger: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """One component of a finished soup."""

    name: str
    ledger: Ledger
    tensors: int
    read: int
    """Bytes of tensor data read."""
    written: int
    """Bytes of tensor data written."""


@dataclass(frozen=True, slots=True)
class Work:
    """One component that has passed every check that headers allow."""

    part: Part
    plan: Plan
    share: Share
    draft: Ledger
    headers: tuple[int, ...]
    """Bytes that the header of each file takes."""

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read."""
        return sum(checkpoint.data_size for checkpoint in self.part.checkpoints)

    @property
    def written(self) -> int:
        """Bytes of tensor data that will be written."""
        return sum(file.tensors[-1].stop for file in self.share.files if file.tensors)


@dataclass(frozen=True, slots=True)
class Job:
    """A request that is ready to be carried out, its inputs open."""

    request: Request
    inputs: Inputs
    destination: Destination
    works: tuple[Work, ...]

    @property
    def size(self) -> int:
        """Bytes of all weights files of the output."""
        return sum(work.written + sum(work.headers) for work in self.works)


def average(request: Request, *, force: bool = False, pace: Pace | None = None) -> tuple[Made, ...]:
    """Make the soup and return what each component became; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_job(request) as job:
        return carry_out(job, force=force, pace=pace)


def carry_out(job: Job, *, force: bool = False, pace: Pace | None = None) -> tuple[Made, ...]:
    """What `average` does, for a job that is open."""
    refuse_inputs(job.destination, job.inputs)
    check = job.inputs.require_unchanged
    with open_sink(job.destination, job.size, replace=force, check=check) as sink:
        files = [_place(sink, work, position) for position, work in enumerate(job.works)]
        for name, path in job.destination.copies:
            sink.add_copy(name, path)
        return tuple(
            _make(sink, work, position, files[position], pace or Pace())
            for position, work in enumerate(job.works)
        )


@contextmanager
def open_job(request: Request) -> Iterator[Job]:
    """The request with its inputs opened, checked and planned; no data has been read yet."""
    recipe = Recipe(
        weights=tuple(ingredient.weight for ingredient in request.ingredients),
        dtype=request.dtype,
        keys=request.keys,
        excludes=request.excludes,
        on_int=request.on_int,
        allow_nonfinite=request.allow_nonfinite,
    )
    with open_inputs(
        request.ingredients,
        component=request.component,
        variant=request.variant,
        ignore_ledger=request.ignore_ledger,
    ) as inputs:
        shown = [model.shown for model in inputs.models]
        plans = [
            make_plan(recipe, shown, [checkpoint.tensors for checkpoint in part.checkpoints])
            for part in inputs.parts
        ]
        destination = decide(request.output, inputs, plans, request.shard_size, request.variant)
        works = tuple(
            _prepare(recipe, inputs, part, plan, destination, share)
            for part, plan, share in zip(inputs.parts, plans, destination.shares, strict=True)
        )
        yield Job(request, inputs, destination, works)


def _prepare(
    recipe: Recipe, inputs: Inputs, part: Part, plan: Plan, destination: Destination, share: Share
) -> Work:
    ledger = draft(recipe, ingredient_names(inputs), part, plan, destination.folder_of(share))
    work = Work(part, plan, share, ledger, ())
    headers = tuple(
        len(encode_header(file.tensors, _metadata(work, ledger))) for file in share.files
    )
    return Work(part, plan, share, ledger, headers)


def _metadata(work: Work, ledger: Ledger) -> dict[str, str]:
    """Metadata of the weights files; the ledger among it, unless an index carries that."""
    agreed = agreed_metadata(work.part.checkpoints)
    if work.share.index is not None:
        return agreed
    return {**agreed, KEY: encode_ledger(ledger, text_digest)}


def _place(sink: Sink, work: Work, position: int) -> list[int]:
    return [
        sink.add(position, _path(work.share, file.name), file.tensors, header)
        for file, header in zip(work.share.files, work.headers, strict=True)
    ]


def _path(share: Share, name: str) -> str:
    return str(PurePosixPath(share.folder, name))


def _make(sink: Sink, work: Work, position: int, files: Sequence[int], pace: Pace) -> Made:
    """Compute one component, then write the headers, which hold what was computed."""
    # numba comes with it; reading headers must not wait for that
    from ..engines.cpu import CpuEngine

    part, plan, share = work.part, work.plan, work.share
    outcome = execute(plan, part.checkpoints, CpuEngine(), partial(sink.write, position), pace)
    require_ledgers_fit(part, outcome)
    ledger = completed(work.draft, outcome)
    metadata = _metadata(work, ledger)
    for fd, file, size in zip(files, share.files, work.headers, strict=True):
        sink.write_header(fd, encode_header(file.tensors, metadata, size))
    if share.index is not None:
        weight_map = {tensor.name: file.name for file in share.files for tensor in file.tensors}
        facts = {"total_size": work.written, KEY: encode_ledger(ledger, text_digest)}
        sink.add_text(_path(share, share.index), encode_index(weight_map, facts))
    return Made(part.name, ledger, len(plan.kept), work.read, work.written)
