"""Carrying out jobs: survey, open the outputs, execute, write the ledgers, publish.

Rule 1: every command that makes a soup ends here; one job is a round of one.
Rule 2: nothing is published before all digests are known and the ledger is written; all outputs of
a round are on disk before the first of them gets its name.
Rule 3: the folders of the outputs are locked from the last check of the inputs until the outputs
have their names: of two commands that change one soup, the later one finds it changed.
Rule 4: a new sum is published before its soup, and the sum of a replaced soup is removed after it.
If publishing the soup fails, the new sum is removed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from ..engines.contract import Engine
from ..format.header import encode_header
from ..format.index import encode_index
from ..ledger.ledger import LEDGER_KEY, Ledger
from ..storage.descriptors import allow_files
from ..storage.files import read_file
from ..storage.lock import locked
from ..storage.partial import reserve_again
from ..storage.place import refusing
from ..storage.written import WrittenFile
from ..workers import ExecutionOptions
from .destination import refuse_input_as_output
from .engine import engine_of
from .executor import execute
from .job import ComponentResult, Job
from .kept_sum.find import replaced_sum
from .kept_sum.format import SumForm
from .kept_sum.forms import SumForms
from .kept_sum.publish import SumPublisher, remove_sum
from .kept_sum.survey import SumLayout
from .kept_sum.writer import SumOutput
from .memory import require_memory
from .order import Order, Outcome
from .output import OutputWriter, open_output
from .plain_config import CONFIG, OF_QUANTISED, plain_folders, without_quantisation
from .rounds import Rounds, require_places
from .sum_layouts import expected_layouts, layout_of, source_errors_first, sum_metadata

Results = tuple[ComponentResult, ...]


def carry_out(
    job: Job, *, force: bool = False, execution: ExecutionOptions | None = None
) -> Results:
    """Make the soup and return the result of each component; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    engine, execution = engine_of(execution or ExecutionOptions())
    refuse_input_as_output(job.destination, job.used, job.replaceable)
    (results,) = _carry_out_round([job], engine, execution, force)
    return results


def carry_out_together(
    rounds: Rounds, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[Results, ...]:
    """Make all outputs, which have equal components, and return the results of each.

    Raises any child of SoupError. Each output appears whole or not at all, in the order of the
    jobs. After a failure before the first of a round is named, none of that round exists. After a
    later failure or a kill, the outputs named so far stay, each complete; the others do not exist,
    or are the old ones.
    """
    require_places(rounds.jobs, force=force)
    engine, execution = engine_of(execution or ExecutionOptions(rounds.threads))
    results: list[Results] = []
    for jobs in rounds.rounds:
        results += _carry_out_round(jobs, engine, execution, force)
    return tuple(results)


def _carry_out_round(
    jobs: Sequence[Job], engine: Engine, execution: ExecutionOptions, force: bool
) -> list[Results]:
    """Make the outputs of all jobs in step, reading shared sources once."""
    layouts = [expected_layouts(job, engine, execution) for job in jobs]
    require_memory(jobs, [[sums.forms.of for sums in some] for some in layouts], execution)
    with ExitStack() as publishing:
        with ExitStack() as stack:
            # the last one opened is published first
            opened = [
                stack.enter_context(_open(job, layout, force))
                for job, layout in reversed([*zip(jobs, layouts, strict=True)])
            ]
            outputs = opened[::-1]
            allow_files(sum(output.job.open_files for output in outputs))
            for output in outputs:
                output.create_files()
            made = [
                _make_component(position, outputs, engine, execution)
                for position, _ in enumerate(zip(*(job.components for job in jobs), strict=True))
            ]
            for output, outcomes in zip(outputs, zip(*made, strict=True), strict=True):
                output.finish(outcomes)
            for output in outputs:
                output.sync()
            publishing.enter_context(locked(_folders(jobs)))
            replaced = [replaced_sum(job.destination.path) if force else None for job in jobs]
        for output, old in zip(outputs, replaced, strict=True):
            if old is not None and old != output.sum_path:
                remove_sum(old)
    return [output.results() for output in outputs]


def _folders(jobs: Sequence[Job]) -> list[Path]:
    """The folders of the outputs."""
    paths = [job.destination.path for job in jobs]
    return [Path(os.path.realpath(path)).parent for path in paths if path is not None]


@contextmanager
def _open(job: Job, layouts: Sequence[SumLayout], force: bool) -> Iterator[_Output]:
    """The output of a job: its sum, if kept, is published first, then the soup."""
    destination = job.destination
    if not layouts:
        check = job.require_unchanged
        with open_output(destination, job.size, replace=force, check=check) as writer:
            yield _Output(job, writer)
        return
    assert destination.path is not None
    publisher = SumPublisher(destination.path, destination.is_folder)
    check = job.require_models_unchanged
    with (
        publisher.withdrawn_on_failure(),
        open_output(destination, job.size, replace=force, check=check) as writer,
        publisher.opened(layouts, job.require_unchanged) as fds,
    ):
        yield _Output(job, writer, publisher, layouts, fds)


def _make_component(
    position: int, outputs: Sequence[_Output], engine: Engine, execution: ExecutionOptions
) -> tuple[Outcome, ...]:
    """Make one component of every output, except its headers."""
    components = [output.job.components[position] for output in outputs]
    with source_errors_first(components):
        outcomes = _execute(position, outputs, engine, execution)
        if not any(outcome.misfits for outcome in outcomes):
            return outcomes
        forms = [
            output.lay_out_sum_again(position, outcome.misfits)
            for output, outcome in zip(outputs, outcomes, strict=True)
        ]
        require_memory([output.job for output in outputs], forms, execution)
        return _execute(position, outputs, engine, execution)


def _execute(
    position: int, outputs: Sequence[_Output], engine: Engine, execution: ExecutionOptions
) -> tuple[Outcome, ...]:
    """The outcome of one component of every output, with that of its sum."""
    orders = [output.order(position) for output in outputs]
    apart = [(n, order) for n, output in enumerate(outputs) for order in output.sum_order(position)]
    made = [*execute([*orders, *(order for _, order in apart)], engine, execution)]
    for (number, _), found in zip(apart, made[len(orders) :], strict=True):
        made[number] = replace(made[number], sum=found.sum, misfits=found.misfits)
    return tuple(made[: len(orders)])


class _Output:
    """The files of one job, soup and sum, while they are written."""

    def __init__(
        self,
        job: Job,
        writer: OutputWriter,
        publisher: SumPublisher | None = None,
        layouts: Sequence[SumLayout] = (),
        sum_fds: Sequence[int] = (),
    ) -> None:
        self.job = job
        self._writer = writer
        self._publisher = publisher
        self._layouts = [*layouts]
        self._sum_fds = sum_fds
        self._sum_files = [WrittenFile(fd) for fd in sum_fds]
        self._files: list[list[WrittenFile]] = []
        """The weights files of each component."""
        self._results: list[ComponentResult] = []

    @property
    def sum_path(self) -> Path | None:
        """The path of its sum, once that is published."""
        return None if self._publisher is None else self._publisher.path

    def _naming_it(self) -> AbstractContextManager[None]:
        """Add the output's name to system errors, since several may be open at once."""
        path = self.job.destination.path
        return nullcontext() if path is None else refusing(path)

    def create_files(self) -> None:
        """Create every file of the soup with its full size."""
        with self._naming_it():
            for position, component in enumerate(self.job.components):
                files = zip(component.files.files, component.headers, strict=True)
                self._files.append(
                    [
                        self._writer.add(
                            position, component.files.path_of(file.name), file.tensors, header
                        )
                        for file, header in files
                    ]
                )
            plain = set(plain_folders(self.job))
            for name, path in self.job.destination.companions.copies:
                own = PurePosixPath(name)
                if own.parent not in plain or own.name not in (CONFIG, *OF_QUANTISED):
                    self._writer.add_copy(name, path)
                elif own.name == CONFIG:
                    self._writer.add_text(name, without_quantisation(read_file(path)))

    def order(self, position: int) -> Order:
        """The order to the executor for one component."""
        component = self.job.components[position]

        def write(tensor: str, offset: int, data: memoryview) -> None:
            try:
                self._writer.write(position, tensor, offset, data)
            except OSError:
                # no context manager until here, to save time for many small tensors
                with self._naming_it():
                    raise

        def write_several(tensors: Sequence[str], sizes: Sequence[int], data: memoryview) -> None:
            with self._naming_it():
                self._writer.write_together(position, tensors, sizes, data)

        apart = component.summed is not None
        kept = self._sum_output(position) if self._layouts and not apart else None
        return Order(component.plan, component.sources, write, kept, write_several)

    def sum_order(self, position: int) -> list[Order]:
        """The order for the sum of a component, if that is not made in the order for the soup."""
        component = self.job.components[position]
        if component.summed is None:
            return []
        return [Order(*component.summed, _discard, self._sum_output(position))]

    def _sum_output(self, position: int) -> SumOutput:
        layout, file = self._layouts[position], self._sum_files[position]
        places = {tensor.name: layout.header + tensor.start for tensor in layout.tensors}

        def write(tensor: str, offset: int, data: memoryview) -> None:
            file.write(data, places[tensor] + offset)

        return SumOutput(layout.forms.of, write, layout.forms.expected)

    def lay_out_sum_again(
        self, position: int, misfits: Mapping[str, SumForm]
    ) -> list[Mapping[str, SumForm]]:
        """Make room for the sum of a component, of which some forms were not the expected ones.

        Returns the forms of all components; none if no sum is kept.
        """
        if self._layouts:
            known = self._layouts[position].forms.of
            layout = layout_of(self.job.components[position], SumForms({**known, **misfits}))
            self._layouts[position] = layout
            assert self.job.destination.path is not None
            with self._naming_it():
                reserve_again(self._sum_fds[position], layout.size, self.job.destination.path)
        return [layout.forms.of for layout in self._layouts]

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Write the headers of all components, which hold the digests found in the pass."""
        for position, outcome in enumerate(outcomes):
            ledger = self.job.components[position].complete(outcomes)
            self._finish_component(position, ledger, outcome)

    def _finish_component(self, position: int, ledger: Ledger, outcome: Outcome) -> None:
        component, written = self.job.components[position], self._files[position]
        text = component.text_of(ledger)
        files, metadata = component.files, component.file_metadata(text)
        with self._naming_it():
            for each, file, size in zip(written, files.files, component.headers, strict=True):
                each.write(encode_header(file.tensors, metadata, size), 0)
            if files.index is not None:
                weight_map = {
                    tensor.name: file.name for file in files.files for tensor in file.tensors
                }
                facts = {"total_size": component.written, LEDGER_KEY: text}
                self._writer.add_text(files.path_of(files.index), encode_index(weight_map, facts))
        if self._publisher is not None and component.sum_record is not None:
            layout = self._layouts[position]
            self._publisher.add_root(component.part.name, ledger.root)
            record = component.sum_record.text(ledger, text, outcome)
            metadata = sum_metadata(component, text, record)
            header = encode_header(layout.tensors, metadata, layout.header)
            self._sum_files[position].write(header, 0)
        self._results.append(
            ComponentResult(
                component.part.name,
                ledger,
                len(component.plan.written),
                component.read,
                component.written,
                component.method,
                outcome.error,
            )
        )

    def sync(self) -> None:
        """Flush all files to disk, before any output of the round gets its name."""
        with self._naming_it():
            for file in (*chain.from_iterable(self._files), *self._sum_files):
                file.sync()

    def results(self) -> Results:
        """The result of each component."""
        return tuple(replace(each, sum=self.sum_path) for each in self._results)


def _discard(tensor: str, offset: int, data: memoryview) -> None:
    """Discard a mean of which only the sum is kept."""
