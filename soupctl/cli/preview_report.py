"""The plan of a soup, as lines for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ..choices import Method
from .block_table import row_lines, rows_json
from .console import counted, size_text

if TYPE_CHECKING:
    from ..verbs import ConversionPreview, DeltaPreview, Preview

    AnyPreview = ConversionPreview | DeltaPreview | Preview

SHOWN_TENSORS = 20
"""The number of special tensors of a component that a plan lists, without -v."""


def preview_json(preview: Preview) -> dict[str, Any]:
    """The plan of one soup, as JSON."""
    return {
        "output": preview.output,
        **work_json(preview),
        **contents_json(preview),
    }


def work_json(preview: AnyPreview) -> dict[str, Any]:
    """How much is read, written and held in memory, as JSON."""
    return {
        "bytes_to_read": preview.read,
        "bytes_to_write": preview.written,
        "memory": preview.memory,
        "threads": preview.threads,
        "free_disk": preview.free_disk,
    }


def contents_json(preview: Preview) -> dict[str, Any]:
    """The content of an output, as JSON."""
    return {
        "from": preview.method.value,
        "sum_bytes": None if preview.sum is None else list(preview.sum),
        "ingredients": [
            {"path": path, "weight": str(weight), "share": float(share)}
            for path, weight, share in preview.shares
        ],
        "components": [
            {
                "name": each.name,
                "files": list(each.files),
                "tensors": each.kept,
                "left_out": each.left_out,
                "dtypes": dict(each.dtypes),
                "odd": [
                    {"tensor": odd.tensor, "rule": odd.rule, "dtypes": list(odd.dtypes)}
                    for odd in each.special
                ],
                **rows_json(each.blocks),
            }
            for each in preview.components
        ],
        **files_json(preview),
    }


def files_json(preview: ConversionPreview | Preview) -> dict[str, Any]:
    """The companion files, and the notes, as JSON."""
    return {
        "copied_files": list(preview.copies),
        "left_behind": list(preview.left_behind),
        "notes": list(preview.notes),
    }


def preview_lines(preview: Preview, most: int | None) -> Iterator[str]:
    """The plan of one soup; `most` limits the listed special tensors of a component."""
    yield from share_lines(preview)
    yield from work_lines(preview)
    yield from contents_lines(preview, most)


def work_lines(preview: AnyPreview) -> Iterator[str]:
    """How much is read, written and held in memory."""
    yield from size_lines(preview.read, preview.written, preview.free_disk)
    yield memory_line(preview.memory, preview.threads)


def share_lines(preview: Preview) -> Iterator[str]:
    """The output, and the share of each ingredient."""
    yield f"output   {preview.output}"
    for place, (path, weight, share) in enumerate(preview.shares):
        number = "scale" if place in preview.added else "weight"
        yield f"         {float(share):8.3%}  {path}  ({number} {weight})"
    if preview.method is not Method.INGREDIENTS:
        yield f"from     the {preview.method.value} and the changed ingredients"
    if preview.sum is not None:
        least, most = map(size_text, preview.sum)
        yield f"keep     the exact sum, usually {least} to {most}"


def size_lines(read: int, written: int, free_disk: int | None) -> Iterator[str]:
    """How many bytes will be read and written."""
    free = "unknown" if free_disk is None else size_text(free_disk)
    yield f"read     {size_text(read)}"
    yield f"write    {size_text(written)} (free disk {free})"


def memory_line(memory: int, threads: int) -> str:
    """How much memory and how many threads the work takes."""
    return f"memory   {size_text(memory)}, {counted(threads, 'thread')}"


def contents_lines(preview: Preview, most: int | None) -> Iterator[str]:
    """The content of an output; `most` limits the listed special tensors of a component."""
    for each in preview.components:
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in each.dtypes)
        left_out = f", {each.left_out} left out" if each.left_out else ""
        files = ", ".join(each.files)
        yield f"{each.name or 'tensors':8} {each.kept} ({dtypes}){left_out} in {files}"
        for label, line in zip_longest(["blocks"], row_lines(each.blocks), fillvalue=""):
            if line:
                yield f"{label:8} {line}"
        for odd in each.special[:most]:
            yield f"         {odd.tensor}: {'+'.join(odd.dtypes)} {odd.rule}"
        if most is not None and len(each.special) > most:
            yield f"         ... and {len(each.special) - most} more (all with -v)"
    yield from file_lines(preview)


def file_lines(preview: ConversionPreview | Preview) -> Iterator[str]:
    """The companion files, and the notes."""
    for name in preview.copies:
        yield f"copy     {name}"
    for name in preview.left_behind:
        yield f"leave    {name}"
    for note in preview.notes:
        yield f"note     {note}"
