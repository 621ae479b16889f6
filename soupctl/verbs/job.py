"""A soup that is ready to be made: inputs open, plans made, places decided; and the making of it.

Rule 1: every verb that makes a soup ends in `carry_out`; they differ in how the job comes about.
Rule 2: no byte is published before every digest is known and the ledger that holds them is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..engines.contract import Engine
from ..execute import Outcome, execute
from ..format.header import encode_header
from ..format.index import encode_index
from ..pace import Pace
from ..soup.ledger import KEY, Ledger
from ..soup.ledgertext import encode_ledger
from ..soup.plan import Plan
from ..storage.digest import text_digest
from .inputs import Inputs, Part
from .record import agreed_metadata
from .sink import Sink, open_sink
from .target import Destination, Share, refuse_inputs


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
    """The ledger as far as it is known; it takes no fewer bytes than the complete one."""
    complete: Callable[[Outcome], Ledger]
    """The ledger once the digests are known; LedgerError if they are not what was promised."""
    headers: tuple[int, ...] = ()
    """Bytes that the header of each file takes."""

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read."""
        return sum(checkpoint.data_size for checkpoint in self.part.checkpoints)

    @property
    def written(self) -> int:
        """Bytes of tensor data that will be written."""
        return sum(file.tensors[-1].stop for file in self.share.files if file.tensors)

    def sized(self) -> Work:
        """The work with its headers measured."""
        metadata = self.metadata(self.draft)
        sizes = (len(encode_header(file.tensors, metadata)) for file in self.share.files)
        return replace(self, headers=tuple(sizes))

    def metadata(self, ledger: Ledger) -> dict[str, str]:
        """Metadata of the weights files; the ledger among it, unless an index carries that."""
        agreed = agreed_metadata(self.part.checkpoints)
        if self.share.index is not None:
            return agreed
        return {**agreed, KEY: encode_ledger(ledger, text_digest)}


@dataclass(frozen=True, slots=True)
class Job:
    """A soup that is ready to be made, its inputs open."""

    weights: tuple[tuple[str, Fraction], ...]
    """What goes in, as a user knows it, each with its weight."""
    inputs: Inputs
    destination: Destination
    works: tuple[Work, ...]
    spared: frozenset[Path] = frozenset()
    """Input files that the output may replace: those of the soup that is updated in place."""

    @property
    def size(self) -> int:
        """Bytes of all weights files of the output."""
        return sum(work.written + sum(work.headers) for work in self.works)

    def require_unchanged(self) -> None:
        """Raise OutputError if a file that was read is another now, or was written to since."""
        self.inputs.require_unchanged()
        self.destination.beside.require_unchanged()


def carry_out(job: Job, *, force: bool = False, pace: Pace | None = None) -> tuple[Made, ...]:
    """Make the soup and return what each component became; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    # numba comes with it: reading headers must not wait for that, and if it cannot be loaded then
    # before anything is made
    from ..engines.cpu import CpuEngine

    refuse_inputs(job.destination, job.inputs, job.spared)
    check = job.require_unchanged
    with open_sink(job.destination, job.size, replace=force, check=check) as sink:
        files = place(sink, job)
        return tuple(
            _make(CpuEngine(), sink, work, position, files[position], pace or Pace())
            for position, work in enumerate(job.works)
        )


def place(sink: Sink, job: Job) -> list[list[int]]:
    """Make every file of the output; the descriptors of the weights files of each component."""
    files = [
        [
            sink.add(position, work.share.path_of(file.name), file.tensors, header)
            for file, header in zip(work.share.files, work.headers, strict=True)
        ]
        for position, work in enumerate(job.works)
    ]
    for name, path in job.destination.beside.copies:
        sink.add_copy(name, path)
    return files


def _make(
    engine: Engine, sink: Sink, work: Work, position: int, files: Sequence[int], pace: Pace
) -> Made:
    """Compute one component and write it."""
    write = partial(sink.write, position)
    return finish(sink, work, files, execute(work.plan, work.part.checkpoints, engine, write, pace))


def finish(sink: Sink, work: Work, files: Sequence[int], outcome: Outcome) -> Made:
    """Write the headers of a component into its `files`: they hold what was computed."""
    share, ledger = work.share, work.complete(outcome)
    metadata = work.metadata(ledger)
    for fd, file, size in zip(files, share.files, work.headers, strict=True):
        sink.write_header(fd, encode_header(file.tensors, metadata, size))
    if share.index is not None:
        weight_map = {tensor.name: file.name for file in share.files for tensor in file.tensors}
        facts = {"total_size": work.written, KEY: encode_ledger(ledger, text_digest)}
        sink.add_text(share.path_of(share.index), encode_index(weight_map, facts))
    return Made(work.part.name, ledger, len(work.plan.kept), work.read, work.written)
