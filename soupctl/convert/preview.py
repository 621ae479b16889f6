"""A preview of a conversion: sizes, memory and files, from headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..format.gguf import ARCHITECTURE
from ..frozen import frozen
from ..merge.chunks import chunk_elements
from ..merge.memory import (
    A_LETTER,
    A_STEP,
    A_TERM,
    A_THREAD,
    BASELINE,
    NUMPY,
    input_bytes,
)
from ..merge.memory_limit import MemoryNeed, fit_memory, free_disk
from .configs.pipeline import NO_TOKENIZER
from .conversion import Conversion
from .dtypes import OutputComponent

NO_ARCHITECTURE = (
    "the file names no architecture, because the tensors are those of no model that ComfyUI reads"
    f" as GGUF; --set {ARCHITECTURE}=NAME gives one"
)
SHOWN = 3
"""Names in a note."""
PLACES = 3
"""Tables of a tensor: of the input, of the output, and of the ranges that lead to it."""


@frozen
class ConvertedPreview:
    """What one component of the output holds."""

    name: str
    files: tuple[str, ...]
    tensors: int
    dtypes: tuple[tuple[str, int], ...]
    """How many tensors have each dtype."""
    cast: int
    """How many are not copied as they are."""


@frozen
class ConversionPreview:
    """A preview of a conversion; sizes are in bytes."""

    read: int
    written: int
    memory: int
    """An upper estimate of anonymous memory, which does not include the system's cache of files."""
    threads: int
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    free_disk: int | None
    """None if unknown."""
    components: tuple[ConvertedPreview, ...]
    copies: tuple[str, ...]
    """Companion files that are copied."""
    left_behind: tuple[str, ...]
    notes: tuple[str, ...]
    """Remarks for the user, a sentence each."""


def preview_conversion(
    job: Conversion,
    threads: int | None = None,
    max_memory: int | None = None,
    reserved: int = 0,
) -> ConversionPreview:
    """The preview of an open conversion, with as many of `threads` as `max_memory` bytes allow.

    If not even one fits, chunks are smaller. `reserved` bytes are used elsewhere. Raises LimitError
    if that is not enough.
    """
    names = [name for content in job.kinds.contents for name in content]
    fixed = reserved + BASELINE + NUMPY + PLACES * A_STEP * len(names)
    fixed += PLACES * A_LETTER * sum(map(len, names)) + sum(map(input_bytes, job.checkpoints))

    def need_of(chunk: int | None) -> MemoryNeed:
        return MemoryNeed(fixed, A_THREAD + 2 * A_TERM + _buffers(job, chunk))

    fitted = fit_memory(need_of, threads, max_memory)
    return ConversionPreview(
        read=job.read,
        written=job.size,
        memory=fitted.memory,
        threads=fitted.threads,
        chunk=fitted.chunk,
        free_disk=free_disk(job.request.output),
        components=tuple(_component(job, number) for number, _ in enumerate(job.components)),
        copies=tuple(name for name, _ in job.destination.companions.copies),
        left_behind=job.destination.companions.left_behind,
        notes=tuple(_notes(job)),
    )


def _buffers(job: Conversion, chunk: int | None) -> int:
    """Bytes that a thread reads into and computes in, for one tensor."""
    most = 0
    for component in job.components:
        for tensor in component.tensors:
            for each in tensor.arranged.ranges:
                stored = job.kinds.contents[each.component][each.tensor]
                width = max(1, stored.dtype.bits // 8) + tensor.dtype.bits // 8
                most = max(most, width * min(stored.count, chunk or chunk_elements(width)))
    return most


def _component(job: Conversion, number: int) -> ConvertedPreview:
    component: OutputComponent = job.components[number]
    if job.gguf is not None:
        counts = Counter(each.type_name for each in job.gguf.tensors)
    else:
        counts = Counter(dtype.value for _, dtype, _ in component.plan.written)
    return ConvertedPreview(
        component.name,
        tuple(file.name for file in job.destination.components[number].files),
        len(component.plan.written),
        tuple(sorted(counts.items())),
        sum(not each.is_copied for each in component.tensors),
    )


def _notes(job: Conversion) -> Iterator[str]:
    if job.texts:
        yield NO_TOKENIZER
    if job.gguf is not None and job.gguf.architecture is None and not job.names_architecture:
        yield NO_ARCHITECTURE
    for why in dict.fromkeys(why for _, why in job.left_out):
        names = [name for name, each in job.left_out if each == why]
        some = ", ".join(names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"left out, because {why}: {some}{more}"
    for label in job.lost_ledgers:
        yield (
            f"{label}: its ledger does not go into the output, whose tensors are others; the output"
            " records the content digest of what it was converted from"
        )
