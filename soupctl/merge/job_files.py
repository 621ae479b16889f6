"""The files of one output, a soup and its sum, while they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from ..format.header import encode_header
from ..format.index import encode_index
from ..ledger.ledger import LEDGER_KEY, Ledger
from ..storage.files import read_file
from ..storage.partial import reserve_again
from ..storage.place import refusing
from ..storage.written import Writable, WrittenFile
from .job import ComponentResult, Job
from .kept_sum.format import SumForm
from .kept_sum.forms import SumForms
from .kept_sum.publish import SumPublisher
from .kept_sum.survey import SumLayout
from .kept_sum.writer import SumOutput
from .order import Order, Outcome
from .output import OutputWriter
from .plain_config import CONFIG, OF_QUANTISED, plain_folders, without_quantisation
from .sum_layouts import layout_of, sum_metadata

Results = tuple[ComponentResult, ...]


class JobFiles:
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
        self._files: list[list[Writable]] = []
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
            self._publisher.add_root(component.inputs.name, ledger.root)
            record = component.sum_record.text(ledger, text, outcome)
            metadata = sum_metadata(component, text, record)
            header = encode_header(layout.tensors, metadata, layout.header)
            self._sum_files[position].write(header, 0)
        self._results.append(
            ComponentResult(
                component.inputs.name,
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
