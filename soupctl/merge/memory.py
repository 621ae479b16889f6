"""Anonymous memory that jobs take: an upper estimate from headers and plans alone.

Rule 1: everything that grows with tensors, ingredients, threads or the ledger is counted here.
Rule 2: figures are measured on CPython, and rounded up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from math import prod

from ..checkpoints.checkpoint import Checkpoint
from ..errors import LimitError
from ..format.dtypes import DType
from ..format.header import Tensor
from ..methods.settings import VALUES_A_SOURCE, MergedTensor, block_of
from ..storage.elsewhere import elsewhere
from ..workers import MOST_TENSORS, ROW_BYTES, TASK_BYTES, TASKS_A_THREAD, ExecutionOptions
from .adapter_reader import AdapterReader
from .chunks import PLANE_BYTES, SINGLE_BYTES, chunk_elements
from .delta.reader import DeltaReader
from .job import ComponentJob, Job
from .kept_sum.format import SumForm
from .kept_sum.reader import AlignedCheckpoint, Source, SumReader
from .memory_limit import MemoryNeed
from .step import Rule, Step

BASELINE = 22 << 20
"""The process before it combines anything: interpreter, cached kernels.

Only a run without cached kernels loads the compiler, which takes about 100 MiB.
"""
NUMPY = 6 << 20
"""Memory of numpy, where sums, scales, deltas or adapters need it."""
SERVERS = 160 << 20
"""Memory of data read ahead from servers, and of the libraries for it; s3fs is the largest."""
A_THREAD = 4 << 20
"""The engine's scratch, the allocator's arena and the smallest buffers of one worker."""
A_STEP = 1280
"""Tables, offsets and digests of one tensor, for any number of ingredients of equal layout."""
A_LETTER = 6
"""Copies of each character of a tensor's name: in headers and tables."""
AN_ENTRY = 384
"""A tensor in the table of a file with a layout of its own."""
A_READ_PLANE = 384
"""A tensor of a sum or a delta, in the tables from a soup's tensors to planes."""
A_LISTED_LETTER = 2
"""Copies of each character of a tensor's name for one such table."""
A_KEPT_PLANE = 640
"""Form, offset, header and digest of one tensor of a sum that is written."""
A_KEPT_LETTER = 4
"""Copies of each character of its name."""
AN_INPUT = 24 << 10
"""An ingredient: its file, its ledger entry and its facts."""
A_TERM = 4 << 10
"""A thread's state for each source of a tensor: addresses of buffers, and a digest."""
TEXT_COPIES = 6
"""Copies of an input's metadata, the ledger in it as text and as values among them."""
LEDGER_COPIES = 16
"""Copies of the new ledger: as values, as text, and escaped in each header."""
FURTHER_PLANES = 2
"""Further planes of F64 that sums with distant exponents take, in a separate buffer."""
FACTOR_COPIES = 3
"""Times the memory of factors in a mean that they take in an exact sum, where they are sliced."""
A_MODULE = 2048
"""A module of an adapter, and the tensor that it changes."""
NARROW = frozenset(dtype for dtype in DType if dtype.bits <= 16 and dtype is not DType.BF16)
"""Dtypes whose sums usually take one plane."""

Forms = Mapping[str, SumForm]
"""The form of the sum of each averaged tensor; empty while it is not known, or without a sum."""


def memory_needed(
    jobs: Sequence[Job], chunk: int | None = None, forms: Sequence[Sequence[Forms]] = ()
) -> MemoryNeed:
    """An upper estimate of the memory for jobs that are carried out together.

    `chunk` is the number of elements in a chunk, None to fit the cache. `forms` are those of the
    kept sums, for each component of each job, once they are known.
    """
    components = [component for job in jobs for component in job.components]
    found = list(chain.from_iterable(forms)) or [{}] * len(components)
    checkpoints = {
        id(each): each
        for job in jobs
        for component in job.used.components
        for each in component.opened
    }
    sources = {id(each): each for component in components for each in component.sources}
    fixed = BASELINE + sum(map(_component, components, found))
    fixed += _tables(checkpoints.values(), sources) + sum(map(input_bytes, checkpoints.values()))
    fixed += NUMPY * any(map(_needs_numpy, components))
    files = (file for each in checkpoints.values() for file in each.files)
    fixed += SERVERS * any(elsewhere(file.path) is not None for file in files)
    fixed += sum(_sending(job) for job in jobs)
    planes = max((len(form.rest) for each in found for form in each.values()), default=0)
    # components are made one after the other, and all jobs make the same one at once
    together = zip(*(job.components for job in jobs), strict=False)
    threads = (_a_thread(some, chunk, max(planes, FURTHER_PLANES)) for some in together)
    return MemoryNeed(fixed, A_THREAD + max(threads, default=0))


def _sending(job: Job) -> int:
    """Memory of data on its way to a server, and of the libraries that send it."""
    if job.destination.address is None:
        return 0
    # imported late, because most soups are written to this disk
    from ..checkpoints.remote.upload import most_held

    return SERVERS + most_held(job.size)


def require_memory(
    jobs: Sequence[Job], forms: Sequence[Sequence[Forms]], execution: ExecutionOptions
) -> None:
    """Raise LimitError if kept sums of these forms need more memory than is allowed.

    They may have more planes than the estimate counts with. `forms` are those of `memory_needed`.
    """
    most = execution.max_memory
    if most is None or not any(forms):
        return
    every = [some or [{}] * len(job.components) for job, some in zip(jobs, forms, strict=True)]
    need = memory_needed(jobs, execution.chunk, every)
    needed = need.with_threads(execution.threads) + execution.reserved_memory
    if needed > most:
        what = f"its exact sum needs {needed} bytes of memory, and {most} are allowed"
        advice = f"--max-memory {needed} allows them; with --no-keep-sum, no sum is kept"
        raise LimitError(what, path=jobs[0].destination.path, advice=advice)


def _component(component: ComponentJob, forms: Forms) -> int:
    """Bytes for the tensors and the ledger of an output."""
    steps = component.plan.steps
    needed = LEDGER_COPIES * len(component.draft_text)
    needed += sum(A_STEP + A_LETTER * len(step.name) for step in steps)
    if component.sum_record is not None:
        for step in steps:
            if step.out is not None:
                a_plane = A_KEPT_PLANE + A_KEPT_LETTER * len(step.name)
                needed += _kept_planes(step, component.sources, forms) * a_plane
    return needed


def _needs_numpy(component: ComponentJob) -> bool:
    """Whether there is more to compute than means of plain tensors."""
    plain = all(isinstance(each, Checkpoint) for each in component.sources)
    odd = any(any(step.scales) for step in component.plan.steps)
    has_method = component.plan.method is not None
    return component.sum_record is not None or odd or has_method or not plain


def _kept_planes(step: Step, sources: Sequence[Source], forms: Forms) -> int:
    """The tensors in the sum of one tensor, or their usual upper limit while that is not known."""
    if step.rule is not Rule.AVERAGE:
        return 1
    if step.name in forms:
        return 1 + 2 * len(forms[step.name].rest)
    held = 1
    is_narrow = True
    for place, dtype in zip(step.sources, step.dtypes, strict=True):
        source = sources[place]
        if isinstance(source, SumReader):
            held = max(held, len(source.planes.get(step.name, ())))
        else:
            is_narrow = is_narrow and dtype in NARROW
    # one plane, and a sparse one of positions and values
    return held if is_narrow else max(held, 3)


def _tables(checkpoints: Iterable[Checkpoint], sources: Mapping[int, Source]) -> int:
    """Bytes for tables of tensors beyond the one that the steps count."""
    tables: dict[int, Mapping[str, Tensor]] = {
        id(each.tensors): each.tensors for each in checkpoints
    }
    needed = sum(_entries(table, AN_ENTRY) for table in tables.values())
    for source in sources.values():
        if isinstance(source, SumReader | DeltaReader):
            needed += _entries(source.checkpoint.tensors, A_READ_PLANE)
        elif isinstance(source, AdapterReader):
            needed += _entries(source.tensors, AN_ENTRY) + A_MODULE * len(source.rows_of)
        elif isinstance(source, AlignedCheckpoint):
            needed += _entries(source.tensors, A_STEP)
    return needed - _entries(next(iter(tables.values()), {}), AN_ENTRY)


def _entries(names: Collection[str], each: int) -> int:
    return each * len(names) + A_LISTED_LETTER * sum(map(len, names))


def input_bytes(checkpoint: Checkpoint) -> int:
    """Bytes for one input and the text of its metadata."""
    text = sum(
        len(key) + len(value)
        for file in checkpoint.files
        for key, value in file.header.metadata.items()
    )
    return AN_INPUT * len(checkpoint.files) + TEXT_COPIES * text


def _a_thread(components: Sequence[ComponentJob], chunk: int | None, planes: int) -> int:
    """Bytes that a thread takes to make one component of all jobs, besides `A_THREAD`."""
    sources = len({id(each) for component in components for each in component.sources})
    orders = len(components)
    # rows of finished tasks that wait for earlier ones
    a_tensor = sources + 3 * orders
    rows = min(MOST_TENSORS * a_tensor, TASK_BYTES // ROW_BYTES + a_tensor)
    waiting = TASKS_A_THREAD * rows * ROW_BYTES
    # each job lacks one ingredient, so together they read all, at most twice what one job alone
    # reads
    buffers = max(_buffers(each, chunk, planes) for each in components) * min(2, orders)
    return waiting + A_TERM * sources + buffers


def _buffers(component: ComponentJob, chunk: int | None, further: int) -> int:
    """Bytes that a thread reads into and computes in, for the tensor that takes most of them.

    Of an exact sum there are at most `further` planes besides the first.
    """
    planes = (1 + further * 2) * PLANE_BYTES + SINGLE_BYTES
    extra = planes if component.sum_record is not None else 0
    sums = [each for each in component.sources if isinstance(each, SumReader)]
    deltas = [each for each in component.sources if isinstance(each, DeltaReader)]
    adapters = [each for each in component.sources if isinstance(each, AdapterReader)]
    widths: dict[int, int] = {}
    most = 0
    averaged = [step for step in component.plan.steps if step.rule is Rule.AVERAGE]
    if not (sums or deltas or adapters):
        # of plain tensors with the same dtypes, the largest takes most
        alike = {(id(step.dtypes), step.out): step for step in sorted(averaged, key=_count)}
        averaged = [*alike.values()]
    for step in averaged:
        if step.out is None:
            continue
        # steps share the tuples of the dtypes of all ingredients
        width = widths.get(id(step.dtypes))
        if width is None:
            width = sum(dtype.bits for dtype in step.dtypes) // 8
            widths[id(step.dtypes)] = width
        width += sum(2 * PLANE_BYTES * len(each.planes.get(step.name, ())) for each in sums)
        width += sum(each.bytes_an_element(step.name) for each in deltas)
        width += step.out.bits // 8
        elements = min(prod(step.shape), chunk or chunk_elements(width))
        if component.plan.method is not None:
            block = block_of(component.plan.method.method, MergedTensor(step.name, step.shape))
            elements = min(prod(step.shape), block)
            width += VALUES_A_SOURCE * PLANE_BYTES * len(step.sources)
        copies = FACTOR_COPIES if component.sum_record is not None else 1
        updates = _updates(step, adapters, elements, copies) if adapters else 0
        most = max(most, elements * (width + extra) + updates)
    return most


def _count(step: Step) -> int:
    return prod(step.shape)


def _updates(step: Step, adapters: Sequence[AdapterReader], elements: int, copies: int) -> int:
    """Bytes for the updates of a tensor, and for computing chunks of `elements` of them.

    Factors take `copies` times the memory that they take in a mean.
    """
    # loads numpy, which plain means can do without
    from ..engines.update_mean import memory_of_updates

    changing = [each for each in adapters if step.name in each.rows_of]
    if not changing:
        return 0
    factors = copies * sum(each.factor_elements(step.name) for each in changing)
    return memory_of_updates(factors, prod(step.shape[1:]), elements)
