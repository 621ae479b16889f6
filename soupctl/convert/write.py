"""Carrying out conversions: find scales, open the output, stream the tensors, write the headers.

Rule 1: nothing is published before the digests of the input are known and its files are unchanged.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import PurePosixPath

from ..checkpoints.digest import root_of
from ..engines.contract import Engine
from ..errors import Issue, LedgerError, OutputError
from ..format.header import encode_header
from ..format.index import encode_index
from ..frozen import frozen
from ..ledger.ledger import CONVERTED_KEY, LEDGER_KEY
from ..merge.code_error import CodeError
from ..merge.code_writer import scale_of
from ..merge.engine import engine_of
from ..merge.output import OutputWriter, open_output
from ..merge.plain_config import CONFIG, OF_QUANTISED, without_quantisation
from ..merge.preflight import refuse_input_as_output, require_free_place
from ..merge.quantised_steps import MARKED, scale_name
from ..storage.descriptors import allow_files
from ..storage.files import read_file
from ..storage.lock import locked
from ..storage.written import Writable
from ..workers import ROW_BYTES, Advance, ExecutionOptions, run_in_order, tasks
from .conversion import Conversion, open_conversion
from .record import record
from .request import ConvertRequest
from .stream import PlacedRange, StreamedTensor, TensorStream, WriteRange, placed_ranges

Placed = Mapping[tuple[int, str], Sequence[PlacedRange]]
Largest = Mapping[tuple[int, str], tuple[float, float]]
Item = tuple[int, str]
NOT_ITS_OWN = "--ignore-ledger treats it as a plain checkpoint"


@frozen
class ConvertedComponent:
    """One component of a converted checkpoint."""

    name: str
    sources: tuple[str, ...]
    """The content digests of the input's components."""
    tensors: int
    keeps_ledger: bool
    error: CodeError | None = None
    """How far its quantised weights are off; None if none are quantised."""


def convert(
    request: ConvertRequest, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ConvertedComponent, ...]:
    """Convert a checkpoint and return the result of each component of the output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_conversion(request) as job:
        return convert_tensors(job, force=force, execution=execution)


def require_free_output(job: Conversion, *, force: bool = False) -> None:
    """Raise the OutputError that `convert_tensors` would raise for the place of its output."""
    refuse_input_as_output(job.destination, job.inputs)
    require_free_place(job.destination, force=force)


def convert_tensors(
    job: Conversion, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ConvertedComponent, ...]:
    """Carry out a conversion; raises the errors of `convert`."""
    engine, execution = engine_of(execution or ExecutionOptions())
    require_free_output(job, force=force)
    placed = placed_ranges(job.components)
    largest = _largest(job, placed, engine, execution)
    # the folder stays locked until the output has its name
    with (
        ExitStack() as publishing,
        open_output(
            job.destination, job.size, replace=force, check=job.require_unchanged
        ) as writer,
    ):
        allow_files(1 + sum(len(each.files) for each in job.destination.components))
        files = [_create(job, writer, number) for number, _ in enumerate(job.components)]
        _copy_companions(job, writer)
        stream = _stream(job, engine, execution, writer.write, largest)
        found = _run(job, stream, placed, execution)
        roots = _roots(job, found)
        _write_scales(job, writer, largest)
        errors = _errors(job, found, largest)
        for number, every in enumerate(files):
            _write_headers(job, writer, number, every, roots)
        publishing.enter_context(locked(job.destination.locked))
    return tuple(
        ConvertedComponent(
            component.name,
            roots,
            len(component.plan.written),
            job.ledgers[n] is not None,
            errors[n],
        )
        for n, component in enumerate(job.components)
    )


def _items(job: Conversion) -> list[Item]:
    """The tensors of the input, in the order of their data."""
    return [
        (number, tensor.name)
        for number, checkpoint in enumerate(job.checkpoints)
        for file in checkpoint.files
        for tensor in file.header.tensors
    ]


def _size(job: Conversion, item: Item) -> int:
    component, name = item
    return job.kinds.contents[component][name].size + ROW_BYTES


def _stream(
    job: Conversion,
    engine: Engine,
    execution: ExecutionOptions,
    write: WriteRange,
    largest: Largest,
) -> TensorStream:
    return TensorStream(
        job.checkpoints,
        job.kinds,
        engine,
        execution.chunk,
        job.request.allow_nonfinite,
        write,
        largest,
    )


def _largest(
    job: Conversion, placed: Placed, engine: Engine, execution: ExecutionOptions
) -> Largest:
    """The largest value and the scale of each tensor that becomes codes, from a pass of its own."""
    quantised = {
        item: chosen
        for item in _items(job)
        if (chosen := [each for each in placed.get(item, ()) if each.tensor.is_quantised])
    }
    if not quantised:
        return {}

    def no_write(*_: object) -> None:
        raise AssertionError

    stream = _stream(job, engine, execution, no_write, {})

    def find(task: Sequence[Item], advance: Advance) -> list[tuple[int, str, float]]:
        every = (stream.find_largest(*item, quantised[item], advance) for item in task)
        return list(chain.from_iterable(every))

    most: dict[tuple[int, str], float] = {}
    groups = tasks(quantised, lambda item: _size(job, item))
    for component, name, value in chain.from_iterable(run_in_order(find, groups, execution)):
        most[component, name] = max(value, most.get((component, name), 0.0))
    return {key: (value, scale_of(value, key[1])) for key, value in most.items()}


def _run(
    job: Conversion, stream: TensorStream, placed: Placed, execution: ExecutionOptions
) -> list[StreamedTensor]:
    def make(task: Sequence[Item], advance: Advance) -> list[StreamedTensor]:
        return [stream.convert(*item, placed.get(item, ()), advance) for item in task]

    groups = tasks(_items(job), lambda item: _size(job, item))
    return list(chain.from_iterable(run_in_order(make, groups, execution)))


def _roots(job: Conversion, found: Sequence[StreamedTensor]) -> tuple[str, ...]:
    """The content digest of each input component; LedgerError if its ledger says another."""
    rows = defaultdict(list)
    for each in found:
        rows[each.component].append(each.row)
    roots = tuple(root_of(rows[number]) for number, _ in enumerate(job.checkpoints))
    issues = [
        Issue("its ledger does not match its tensors", checkpoint.label, advice=NOT_ITS_OWN)
        for component, checkpoint, root in zip(
            job.inputs.components, job.checkpoints, roots, strict=True
        )
        for ledger in component.ledgers
        if ledger is not None and ledger.root != root
    ]
    if issues:
        raise LedgerError.collected(issues)
    return roots


def _errors(
    job: Conversion, found: Sequence[StreamedTensor], largest: Largest
) -> list[CodeError | None]:
    """The quantisation error of each output component; OutputError if an input has changed."""
    sums: dict[tuple[int, str], tuple[float, float, float]] = {}
    for each in found:
        for component, name, value, squares, means in each.errors:
            most, before, total = sums.get((component, name), (0.0, 0.0, 0.0))
            sums[component, name] = (max(most, value), before + squares, total + means)
    errors: list[CodeError | None] = [None for _ in job.components]
    for (component, name), (most, squares, means) in sorted(sums.items()):
        if most != largest[component, name][0]:
            raise OutputError("an input was changed while it was read", tensor=name)
        one = CodeError(1, squares, means, 0.0, name)
        one = CodeError(1, squares, means, one.relative, name)
        errors[component] = one.together(errors[component])
    return errors


def _create(job: Conversion, writer: OutputWriter, number: int) -> list[Writable]:
    """The files of a component, with room for their headers."""
    files = job.destination.components[number]
    return [
        writer.add(number, files.path_of(file.name), file.tensors, header)
        for file, header in zip(files.files, job.headers(number), strict=True)
    ]


def _copy_companions(job: Conversion, writer: OutputWriter) -> None:
    """Copy the files beside the weights; configs of weights that are read no longer quantise."""
    plain = {
        PurePosixPath(files.folder)
        for component, files in zip(job.components, job.destination.components, strict=True)
        if component.is_dequantised
    }
    for name, text in job.texts:
        writer.add_text(name, text)
    for name, path in job.destination.companions.copies:
        own = PurePosixPath(name)
        if own.parent not in plain or own.name not in (CONFIG, *OF_QUANTISED):
            writer.add_copy(name, path)
        elif own.name == CONFIG:
            writer.add_text(name, without_quantisation(read_file(path)))


def _write_scales(job: Conversion, writer: OutputWriter, largest: Largest) -> None:
    """Write the scales of codes, and the markers of quantised components."""
    for (component, name), (_, scale) in largest.items():
        writer.write(component, scale_name(name), 0, memoryview(struct.pack("<f", scale)))
    for number, each in enumerate(job.components):
        if each.plan.marker is not None:
            writer.write(number, each.plan.marker, 0, memoryview(MARKED))


def _write_headers(
    job: Conversion,
    writer: OutputWriter,
    number: int,
    written: Sequence[Writable],
    roots: Sequence[str],
) -> None:
    """Write the headers of a component, and its index, now that the input's digests are known."""
    component, files = job.components[number], job.destination.components[number]
    metadata = dict(job.metadata[number])
    if not component.is_unchanged:
        digests = dict(enumerate(roots))
        metadata[CONVERTED_KEY] = record(job.request, component, job.checkpoints, digests)
    whole = job.file_metadata(number, metadata)
    for file, place, size in zip(files.files, written, job.headers(number), strict=True):
        if job.gguf is not None:
            place.write(job.gguf.header(whole), 0)
        else:
            place.write(encode_header(file.tensors, whole, size), 0)
        place.sync()
    if files.index is not None:
        weight_map = {tensor.name: file.name for file in files.files for tensor in file.tensors}
        ledger = job.ledgers[number]
        size = sum(tensor.size for file in files.files for tensor in file.tensors)
        facts: dict[str, object] = {"total_size": size}
        if ledger is not None:
            facts[LEDGER_KEY] = ledger
        writer.add_text(files.path_of(files.index), encode_index(weight_map, facts))
