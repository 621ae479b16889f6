"""A soup that is ready to be made: inputs open, plans made, places decided; and the making of it.

Rule 1: every verb that makes a soup ends in `carry_out`; they differ in how the job comes about.
Rule 2: no byte is published before every digest is known and the ledger that holds them is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import text_digest
from ..choices import Method
from ..engines.contract import Engine
from ..errors import InputError, LimitError, MismatchError
from ..format.header import encode_header
from ..format.index import encode_index
from ..ledger.ledger import LEDGER_KEY, Ledger
from ..ledger.ledger_json import encode_ledger
from ..workers import ExecutionOptions
from .destination import ComponentFiles, Destination, refuse_inputs
from .engine import engine_of
from .executor import Outcome, Write, execute
from .ingredients import Inputs, Part
from .kept_sum.find import replaced_sum
from .kept_sum.publish import SumSink, remove
from .kept_sum.writer import Summing, Surveyed, survey_sum
from .new_ledger import agreed_metadata
from .output import Sink, open_sink
from .plan import Plan
from .summing import Summed, execute_sums


@dataclass(frozen=True, slots=True)
class ComponentResult:
    """One component of a finished soup."""

    name: str
    ledger: Ledger
    tensors: int
    read: int
    """Bytes of tensor data read."""
    written: int
    """Bytes of tensor data written."""
    way: Method
    sum: Path | None = None
    """Where its sum is kept, or the folder that its sum is in."""


@dataclass(frozen=True, slots=True)
class Work:
    """One component that has passed every check that headers allow."""

    part: Part
    plan: Plan
    share: ComponentFiles
    draft: Ledger
    """The ledger as far as it is known; it takes no fewer bytes than the complete one."""
    complete: Callable[[Outcome], Ledger]
    """The ledger once the digests are known; LedgerError if they are not what was promised."""
    headers: tuple[int, ...] = ()
    """Bytes that the header of each file takes."""
    summing: Summing | None = None
    """How it is computed in exact sums, if it is."""
    require_sources: Callable[[], None] = lambda: None
    """Raises LedgerError if what is computed with is not what was promised, as the cause of any
    other trouble with it."""
    sums: tuple[Checkpoint, ...] = ()
    """The sums that it is computed from, if it is."""
    way: Method = Method.INGREDIENTS

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read; for a sum to keep, twice."""
        size = sum(each.data_size for each in (*self.part.checkpoints, *self.sums))
        return size * (2 if self.keeps else 1)

    @property
    def keeps(self) -> bool:
        """Whether its sum is kept."""
        return self.summing is not None and self.summing.record is not None

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
        agreed = self._agreed()
        if self.share.index is not None:
            return agreed
        return {**agreed, LEDGER_KEY: encode_ledger(ledger, text_digest)}

    def sum_metadata(self, ledger: Ledger, found: Summed | None) -> dict[str, str]:
        """Metadata of its sum's file; before the pass, a draft of it."""
        assert self.summing is not None
        assert self.summing.record is not None
        return self.summing.record.metadata(self._agreed(), ledger, found)

    def _agreed(self) -> dict[str, str]:
        return agreed_metadata((*self.sums, *self.part.checkpoints))


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

    @property
    def keeps(self) -> bool:
        """Whether a sum is kept of the soup."""
        return any(work.keeps for work in self.works)

    @property
    def sums(self) -> tuple[Checkpoint, ...]:
        """The sums that it is computed from."""
        return tuple(each for work in self.works for each in work.sums)

    @property
    def used(self) -> Inputs:
        """All inputs, sums among them."""
        sums = Part("", self.sums, (None,) * len(self.sums), None)
        return replace(self.inputs, parts=(*self.inputs.parts, sums))

    def require_unchanged(self) -> None:
        """Raise OutputError if a file that was read is another now, or was written to since."""
        self.require_models_unchanged()
        for checkpoint in self.sums:
            checkpoint.require_unchanged()

    def require_models_unchanged(self) -> None:
        """The same but for sums, which a new one of the same name may have replaced by then."""
        self.inputs.require_unchanged()
        self.destination.beside.require_unchanged()


def carry_out(
    job: Job, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the soup and return what each component became; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    engine, execution = engine_of(execution or ExecutionOptions())
    refuse_inputs(job.destination, job.used, job.spared)
    old = replaced_sum(job.destination.path) if force else None
    make = _make_both if job.keeps else _make_soup
    made = make(job, engine, execution, force)
    if old is not None and old != made[0].sum:
        remove(old)
    return made


def _make_soup(
    job: Job, engine: Engine, execution: ExecutionOptions, force: bool
) -> tuple[ComponentResult, ...]:
    """Make a soup of which no sum is kept."""
    with open_sink(job.destination, job.size, replace=force, check=job.require_unchanged) as sink:
        files = place(sink, job)
        made = []
        for position, work in enumerate(job.works):
            with _blaming(work):
                write = partial(sink.write, position)
                outcome = _outcome(work, engine, write, execution)
            made.append(finish(sink, work, files[position], outcome))
        return tuple(made)


def _outcome(work: Work, engine: Engine, write: Write, execution: ExecutionOptions) -> Outcome:
    if work.summing is None:
        return execute(work.plan, work.part.checkpoints, engine, write, execution)
    return execute_sums(work.plan, work.summing.sources, engine, write, execution).outcome


def _make_both(
    job: Job, engine: Engine, execution: ExecutionOptions, force: bool
) -> tuple[ComponentResult, ...]:
    """Make a soup and its sum, which is there first; if the soup fails, that goes again."""
    assert job.destination.path is not None
    layouts = [_survey(work, engine, execution) for work in job.works]
    sums = SumSink(job.destination.path, job.destination.is_folder)
    check = job.require_models_unchanged
    try:
        with open_sink(job.destination, job.size, replace=force, check=check) as sink:
            files = place(sink, job)
            with sums.opened([layout.file for layout in layouts], job.require_unchanged) as fds:
                made = []
                for position, work in enumerate(job.works):
                    assert work.summing is not None
                    write, layout, fd = (
                        partial(sink.write, position),
                        layouts[position],
                        fds[position],
                    )
                    with _blaming(work):
                        found = layout.make(work.plan, work.summing, engine, write, fd, execution)
                    made.append(finish(sink, work, files[position], found.outcome))
                    sums.add_root(work.part.name, made[-1].ledger.root)
                    layout.describe(fd, work.sum_metadata(made[-1].ledger, found))
    except BaseException:
        sums.withdraw()
        raise
    return tuple(replace(each, sum=sums.path) for each in made)


def _survey(work: Work, engine: Engine, execution: ExecutionOptions) -> Surveyed:
    assert work.summing is not None
    draft = work.sum_metadata(work.draft, None)
    with _blaming(work):
        return survey_sum(work.part.name, work.plan, work.summing, draft, engine, execution)


@contextmanager
def _blaming(work: Work) -> Iterator[None]:
    """Where something is wrong with an input that is not the one that was promised, say that."""
    try:
        yield
    except (InputError, MismatchError, LimitError):
        work.require_sources()
        raise


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


def finish(sink: Sink, work: Work, files: Sequence[int], outcome: Outcome) -> ComponentResult:
    """Write the headers of a component into its `files`: they hold what was computed."""
    share, ledger = work.share, work.complete(outcome)
    metadata = work.metadata(ledger)
    for fd, file, size in zip(files, share.files, work.headers, strict=True):
        sink.write_header(fd, encode_header(file.tensors, metadata, size))
    if share.index is not None:
        weight_map = {tensor.name: file.name for file in share.files for tensor in file.tensors}
        facts = {"total_size": work.written, LEDGER_KEY: encode_ledger(ledger, text_digest)}
        sink.add_text(share.path_of(share.index), encode_index(weight_map, facts))
    kept = len(work.plan.kept)
    return ComponentResult(work.part.name, ledger, kept, work.read, work.written, work.way)
