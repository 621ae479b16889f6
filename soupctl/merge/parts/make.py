"""Making one part of a soup: its tensors and its record become one file in the folder of parts.

Rule 1: a part has a file of its own. Processes on several machines never write to one file: caches
of network file systems hold whole pages, and two machines would overwrite each other's.
Rule 2: that file appears whole, so a part that was killed is simply made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...format.header import Tensor, encode_header, lay_out
from ...format.shards import TensorSpec
from ...frozen import frozen
from ...storage.atomic import publish_file
from ...storage.files import write_at
from ...storage.place import refusing
from ...workers import ExecutionOptions
from ..average import Request, open_job
from ..engine import engine_of
from ..executor import execute_part
from ..job import ComponentJob, Job
from ..order import Order
from ..plan import Plan
from ..preflight import refuse_input_as_output, require_free_place
from ..sum_layouts import source_errors_first
from .divide import PartOfPlan, bytes_of, part_of
from .record import PartRecord, drafted_rows, plan_digest, record_metadata, stamps_of
from .request_json import decode_request, encode_request

SUFFIX = ".parts"


@frozen
class PlannedPart:
    """A part that is ready to be made, its inputs open."""

    job: Job
    """The soup that it is a part of."""
    part: PartOfPlan
    request: Mapping[str, Any]
    """The request as JSON."""
    plans: Sequence[Plan]
    """The part's plan of each component."""
    read: int
    """Bytes of tensor data that will be read."""
    written: int
    """Bytes of tensor data that will be written."""

    @property
    def path(self) -> Path:
        """Where its file will be."""
        return parts_folder(self.job) / name_of(self.part)

    @property
    def tensors(self) -> int:
        """The number of the soup's tensors that it holds."""
        return sum(len(plan.written) for plan in self.plans)


@contextmanager
def open_part(request: Request, part: PartOfPlan) -> Iterator[PlannedPart]:
    """One part of the plan of a request, its inputs open and checked.

    Raises UsageError for a request that is not made in parts, and what `open_job` raises.
    """
    encoded = encode_request(request)
    with open_job(decode_request(encoded)) as job:
        yield planned_part(job, part, encoded)


def planned_part(job: Job, part: PartOfPlan, encoded: Mapping[str, Any]) -> PlannedPart:
    """One part of a job; UsageError for one that is not made in parts."""
    require_plain(job)
    plans = part_of(job.components, part)
    sizes = [
        bytes_of(plan, component.sources)
        for plan, component in zip(plans, job.components, strict=True)
    ]
    read, written = (sum(each) for each in zip(*sizes, strict=True))
    return PlannedPart(job, part, encoded, plans, read, written)


def make_part(
    planned: PlannedPart, *, force: bool = False, execution: ExecutionOptions | None = None
) -> Path:
    """Make a part, in place of an earlier one, and return the path of its file.

    `force` is for a soup whose file exists, and is replaced when the parts are joined. Raises any
    child of SoupError; then there is no new file.
    """
    job = planned.job
    refuse_input_as_output(job.destination, job.used, job.replaceable)
    require_free_place(job.destination, force=force)
    with refusing(planned.path.parent):
        planned.path.parent.mkdir(exist_ok=True)
    write_part(planned, execution or ExecutionOptions())
    return planned.path


def write_part(planned: PlannedPart, execution: ExecutionOptions) -> None:
    """Make a part in the folder of parts, which exists; raises what `make_part` raises."""
    job = planned.job
    engine, execution = engine_of(execution)
    stamps, plan = stamps_of(job), plan_digest(planned.request, job)
    tensors = lay_out(_entries(job.components, planned.plans))
    pairs = [*zip(job.components, planned.plans, strict=True)]
    drafted = tuple(drafted_rows(each.sources, own) for each, own in pairs)
    draft = PartRecord(planned.part, plan, planned.request, stamps, drafted)
    header = len(encode_header(tensors, record_metadata(draft)))
    size = header + (tensors[-1].stop if tensors else 0)
    with publish_file(planned.path, size, replace=True, check=job.require_unchanged) as fd:
        writer = _PartFile(fd, header, tensors)
        with source_errors_first(job.components):
            rows = tuple(execute_part(writer.order(*each), engine, execution) for each in pairs)
        record = PartRecord(planned.part, plan, planned.request, stamps, rows)
        write_at(fd, encode_header(tensors, record_metadata(record), header), 0)


def require_plain(job: Job, option: str = "--part") -> None:
    """Raise UsageError for a soup that is not made in parts, which an option asks for."""
    for component in job.components:
        for step in component.plan.kept:
            if any(step.scales):
                what = f"{option} does not take quantised weights, whose scales lie apart from them"
                label = component.sources[step.sources[0]].label
                advice = f"leave out {option}, or convert the inputs to floats first"
                raise UsageError(what, path=label, advice=advice)


def parts_folder(job: Job) -> Path:
    """The folder of a soup's parts."""
    assert job.destination.path is not None
    return folder_beside(job.destination.path)


def folder_beside(output: str | Path) -> Path:
    """The folder of the parts of a soup at a path."""
    path = Path(output)
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))
    return Path(f"{path}{SUFFIX}")


def name_of(part: PartOfPlan) -> str:
    """The name of a part's file."""
    return f"{part.number}-of-{part.count}.safetensors"


def stored_name(component: str, tensor: str) -> str:
    """The name of a component's tensor in a part's file."""
    return f"{component}/{tensor}" if component else tensor


def _entries(components: Sequence[ComponentJob], plans: Sequence[Plan]) -> Iterator[TensorSpec]:
    for component, plan in zip(components, plans, strict=True):
        for name, dtype, shape in plan.written:
            yield stored_name(component.inputs.name, name), dtype, shape


class _PartFile:
    """The file of a part, while it is written."""

    def __init__(self, fd: int, header: int, tensors: Sequence[Tensor]) -> None:
        self._fd = fd
        self._places = {tensor.name: header + tensor.start for tensor in tensors}

    def order(self, component: ComponentJob, plan: Plan) -> Order:
        """The order to the executor for a component's tensors."""

        def write(tensor: str, offset: int, data: memoryview) -> None:
            place = self._places[stored_name(component.inputs.name, tensor)]
            write_at(self._fd, data, place + offset)

        return Order(plan, component.sources, write)
