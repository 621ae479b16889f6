"""What all commands that make a soup have in common: plan or work, progress, and what is told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import options
from .render import counted, is_terminal, progress, put, put_json, say, shares_json, size_text

if TYPE_CHECKING:
    from ..verbs import Job, Made, Preview


@dataclass(frozen=True, slots=True)
class Making:
    """How a soup is made, as a command line says it; nothing here changes a byte of it."""

    output: str
    force: bool
    dry_run: bool
    json: bool
    threads: int | None
    max_memory: str | None
    quiet: bool
    verbose: bool


def require_output(output: str | None, json: bool) -> str:
    """The output that was given; UsageError if none was, or if `json` wants the same stdout."""
    if output is None:
        raise UsageError("no output given", advice="-o FILE, or -o - for stdout")
    if json and output == "-":
        raise UsageError("--json and -o - both want stdout")
    return output


def make(opening: AbstractContextManager[Job], making: Making) -> tuple[Made, ...]:
    """Carry out the job that `opening` yields and tell what came of it; nothing in a dry run."""
    from .. import verbs
    from ..verbs.foresight import require_free

    most = options.parse_size(making.max_memory, "--max-memory")
    started = time.monotonic()
    with opening as job:
        preview = verbs.preview(job, making.threads, most)
        if making.dry_run:
            require_free(job, force=making.force)
            _show_preview(preview, making.json, making.verbose)
            return ()
        hidden = making.quiet or making.output == "-"
        with progress(preview.read + preview.written, hidden) as advance:
            pace = verbs.Pace(preview.threads, progress=advance)
            made = verbs.carry_out(job, force=making.force, pace=pace)
    silent = making.quiet or not (making.verbose or is_terminal())
    _tell_made(making.output, made, time.monotonic() - started, silent)
    for each in made:
        _tell_taken(each, making.quiet)
    _tell_left_behind(preview, making.quiet)
    if making.json:
        put_json({"output": making.output, "components": [_made_json(each) for each in made]})
    return made


def _tell_left_behind(preview: Preview, quiet: bool) -> None:
    if preview.left_behind:
        files = counted(len(preview.left_behind), "file")
        some = ", ".join(preview.left_behind[:SHOWN_NAMES])
        rest = len(preview.left_behind) - SHOWN_NAMES
        more = f" and {rest} more (all with -n)" if rest > 0 else ""
        say(f"soupctl: left behind {files}: {some}{more}", quiet)


def _tell_made(output: str, made: Sequence[Made], seconds: float, quiet: bool) -> None:
    """Tell a person what was made and how long it took."""
    for each in made:
        ledger = each.ledger
        title = f"{output}: {each.name}" if each.name else output
        ingredients = counted(len(ledger.ingredients), "ingredient")
        tensors = counted(each.tensors, "tensor")
        say(f"{title}: {ingredients}, {tensors}, {ledger.root}", quiet)
    total = sum(each.read + each.written for each in made)
    say(f"{size_text(total)} read and written in {seconds:.1f} s", quiet)


def _tell_taken(made: Made, quiet: bool) -> None:
    taken = made.ledger.taken
    if taken is not None:
        count = (
            f"{len(taken.tensors)} integer tensors differ"
            if len(taken.tensors) > 1
            else f"{taken.tensors[0]} differs"
        )
        say(f"soupctl: {count}; the first ingredient's values were taken (--on-int first)", quiet)


def _made_json(made: Made) -> dict[str, Any]:
    ledger = made.ledger
    return {
        "name": made.name,
        "digest": ledger.root,
        "ingredients": shares_json(ledger.ingredients),
        "tensors": made.tensors,
        "bytes_read": made.read,
        "bytes_written": made.written,
    }


def _show_preview(preview: Preview, json: bool, verbose: bool) -> None:
    """The plan, as data on stdout: it is what was asked for."""
    if json:
        put_json(_preview_json(preview))
        return
    for line in _preview_lines(preview, None if verbose else SHOWN_TENSORS):
        put(line)


def _preview_json(preview: Preview) -> dict[str, Any]:
    return {
        "output": preview.output,
        "bytes_to_read": preview.read,
        "bytes_to_write": preview.written,
        "memory": preview.memory,
        "threads": preview.threads,
        "free_disk": preview.free_disk,
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
                    for odd in each.odd
                ],
            }
            for each in preview.components
        ],
        "copied_files": list(preview.copies),
        "left_behind": list(preview.left_behind),
    }


def _preview_lines(preview: Preview, most: int | None) -> Iterator[str]:
    yield f"output   {preview.output}"
    for path, weight, share in preview.shares:
        yield f"         {float(share):8.3%}  {path}  (weight {weight})"
    free = "unknown" if preview.free_disk is None else size_text(preview.free_disk)
    yield f"read     {size_text(preview.read)}"
    yield f"write    {size_text(preview.written)} (free disk {free})"
    yield f"memory   {size_text(preview.memory)}, {counted(preview.threads, 'thread')}"
    for each in preview.components:
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in each.dtypes)
        left_out = f", {each.left_out} left out" if each.left_out else ""
        files = ", ".join(each.files)
        yield f"{each.name or 'tensors':8} {each.kept} ({dtypes}){left_out} in {files}"
        for odd in each.odd[:most]:
            yield f"         {odd.tensor}: {'+'.join(odd.dtypes)} {odd.rule}"
        if most is not None and len(each.odd) > most:
            yield f"         ... and {len(each.odd) - most} more (all with -v)"
    for name in preview.copies:
        yield f"copy     {name}"
    for name in preview.left_behind:
        yield f"leave    {name}"


SHOWN_TENSORS = 20
SHOWN_NAMES = 3
