"""The parts of all commands that make a soup: the plan, the progress of the work, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ..choices import Method
from ..errors import UsageError
from ..frozen import frozen
from . import options
from .block_table import row_lines, rows_json
from .console import (
    counted,
    digest_text,
    is_terminal,
    put,
    put_json,
    say,
    shares_json,
    size_text,
)
from .work import limits, working

if TYPE_CHECKING:
    from ..merge.code_error import CodeError
    from ..verbs import ComponentResult, Job, Preview

    CarryOut = Callable[..., tuple[ComponentResult, ...]]


@frozen
class MergeOptions:
    """Options of every command that makes a soup; none of them changes its bytes."""

    force: options.Force = False
    dry_run: options.DryRun = False
    json: options.Json = False
    threads: options.Threads = None
    device: options.Device = "auto"
    max_memory: options.MaxMemory = None
    quiet: options.Quiet = False
    verbose: options.Verbose = False


def require_output(output: str | None, merge: MergeOptions) -> str:
    """The output that was given; UsageError if none was, or if --json needs the same stdout."""
    if output is None:
        raise UsageError("-o is required", advice="-o FILE, or -o - for stdout")
    if merge.json and not merge.dry_run and output == "-":
        raise UsageError("--json and -o - both write to stdout", advice="name an output file")
    return output


def make(
    opening: AbstractContextManager[Job],
    output: str,
    merge: MergeOptions,
    facts: Mapping[str, Any] | None = None,
    carry_out: CarryOut | None = None,
) -> tuple[ComponentResult, ...]:
    """Carry out the job that `opening` yields and report the results; none in a dry run.

    `facts` are what `--json` prints besides; `carry_out` makes the soup elsewhere.
    """
    from .. import verbs
    from ..merge.preflight import file_system_lacks, require_free

    execution, most = limits(merge)
    started = time.monotonic()
    with opening as job:
        preview = verbs.preview(job, merge.threads, most, execution.reserved_memory)
        if merge.dry_run:
            require_free(job, force=merge.force)
            report_widened([preview], merge.quiet)
            _show_preview(preview, merge, facts or {})
            return ()
        if merge.verbose:
            for line in _preview_lines(preview, None):
                say(line, merge.quiet)
            for lack in file_system_lacks(job):
                say(f"soupctl: {output}: its file system has {lack}", merge.quiet)
        with working(preview, execution, merge, output) as planned:
            make_it = carry_out or partial(verbs.carry_out, force=merge.force)
            made = make_it(job, execution=planned)
    silent = merge.quiet or not (merge.verbose or is_terminal())
    report_made(output, made, verbose=merge.verbose, quiet=silent)
    report_bytes(preview.read + preview.written, time.monotonic() - started, silent)
    for each in made:
        report_codes(output, each, merge.quiet)
        report_integers(each, merge.quiet)
    report_widened([preview], merge.quiet)
    report_left_behind(preview, merge.quiet)
    for note in preview.notes:
        say(f"soupctl: {note}", merge.quiet)
    if merge.json:
        put_json({**made_json(output, made), **(facts or {})})
    return made


def make_on(
    ray: str | None,
    opening: Callable[[Any], AbstractContextManager[Job]],
    request: Any,
    output: str,
    merge: MergeOptions,
) -> tuple[ComponentResult, ...]:
    """Make the soup of a request as `make` does, with --ray on the workers at that address."""
    if ray is None:
        return make(opening(request), output, merge)
    from .ray import make_on_workers

    return make_on_workers(ray, opening, request, output, merge)


def report_widened(previews: Sequence[Preview], quiet: bool) -> None:
    """Report mixed dtypes whose common dtype is wider than either."""
    for each in dict.fromkeys(each for preview in previews for each in preview.widened):
        mixed = " with ".join(each.dtypes)
        instead = f"avg --dtype {each.instead.lower()} makes {each.instead}"
        say(f"soupctl: {mixed} becomes {each.out}, which takes more room ({instead})", quiet)


def report_left_behind(preview: Preview, quiet: bool) -> None:
    """Report companion files that were not copied."""
    if preview.not_copied:
        files = counted(len(preview.not_copied), "file")
        some = ", ".join(preview.not_copied[:SHOWN_NAMES])
        rest = len(preview.not_copied) - SHOWN_NAMES
        more = f" and {rest} more (all with -n)" if rest > 0 else ""
        say(f"soupctl: left behind {files}: {some}{more}", quiet)


def report_made(
    output: str, made: Sequence[ComponentResult], *, verbose: bool, quiet: bool
) -> None:
    """Report the result on stderr."""
    whole = verbose or not is_terminal()
    for each in made:
        ledger = each.ledger
        title = f"{output}: {each.name}" if each.name else output
        ingredients = counted(len(ledger.ingredients), "ingredient")
        tensors = counted(each.tensors, "tensor")
        digest = digest_text(ledger.root, whole=whole)
        say(f"{title}: {ingredients}, {tensors}, {digest}", quiet)
        if each.method is not Method.INGREDIENTS:
            say(f"{title}: computed from the {each.method.value}", quiet)
    if made and made[0].sum is not None:
        say(f"{made[0].sum}: the exact sum", quiet)


def report_bytes(size: int, seconds: float, quiet: bool) -> None:
    """Report how much was read and written, and how long it took."""
    say(f"{size_text(size)} read and written in {seconds:.1f} s", quiet)


def report_integers(made: ComponentResult, quiet: bool) -> None:
    """Report that differing integers were taken from the first ingredient."""
    taken = made.ledger.integer_source
    if taken is not None and taken.tensors:
        count = (
            f"{len(taken.tensors)} integer tensors differ"
            if len(taken.tensors) > 1
            else f"{taken.tensors[0]} differs"
        )
        say(f"soupctl: {count}; the first ingredient's values were taken (--on-int first)", quiet)


def report_codes(output: str, made: ComponentResult, quiet: bool) -> None:
    """Report how far quantised weights are from their exact means."""
    report_error(output, made.error, quiet)


def report_error(output: str, error: CodeError | None, quiet: bool) -> None:
    """Report a quantisation error, if there is one."""
    if error is not None:
        say(
            f"soupctl: {output}: {counted(error.tensors, 'weight')} in fp8 with a scale: off by"
            f" {error.relative:.3%} (root mean square, relative), at most {error.worst:.3%} in"
            f" {error.where}",
            quiet,
        )


def made_json(output: str, made: Sequence[ComponentResult]) -> dict[str, Any]:
    """The result as JSON."""
    return {"output": output, "components": [_component_json(each) for each in made]}


def _component_json(made: ComponentResult) -> dict[str, Any]:
    ledger = made.ledger
    return {
        "name": made.name,
        "digest": ledger.root,
        "ingredients": shares_json(ledger),
        "tensors": made.tensors,
        "from": made.method.value,
        "sum": None if made.sum is None else str(made.sum),
        **({} if made.error is None else {"quantised": error_json(made.error)}),
        "bytes_read": made.read,
        "bytes_written": made.written,
    }


def error_json(error: CodeError) -> dict[str, Any]:
    """A quantisation error as JSON."""
    # the last digits depend on how a tensor is divided into chunks
    return {
        "tensors": error.tensors,
        "relative_error": float(f"{error.relative:.3e}"),
        "largest_relative_error": float(f"{error.worst:.3e}"),
        "largest_in": error.where,
    }


def _show_preview(preview: Preview, merge: MergeOptions, facts: Mapping[str, Any]) -> None:
    """Print the plan on stdout: it is the result of a dry run."""
    if merge.json:
        put_json({**_preview_json(preview), **facts})
        return
    for line in _preview_lines(preview, None if merge.verbose else SHOWN_TENSORS):
        put(line)


def _preview_json(preview: Preview) -> dict[str, Any]:
    return {
        "output": preview.output,
        "bytes_to_read": preview.read,
        "bytes_to_write": preview.written,
        "memory": preview.memory,
        "threads": preview.threads,
        "free_disk": preview.free_disk,
        **contents_json(preview),
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
        "copied_files": list(preview.copies),
        "left_behind": list(preview.not_copied),
        "notes": list(preview.notes),
    }


def _preview_lines(preview: Preview, most: int | None) -> Iterator[str]:
    yield from share_lines(preview)
    yield from size_lines(preview.read, preview.written, preview.free_disk)
    yield memory_line(preview.memory, preview.threads)
    yield from contents_lines(preview, most)


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
    for name in preview.copies:
        yield f"copy     {name}"
    for name in preview.not_copied:
        yield f"leave    {name}"
    for note in preview.notes:
        yield f"note     {note}"


SHOWN_TENSORS = 20
SHOWN_NAMES = 3
