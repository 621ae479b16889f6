"""What all commands that make a soup share: options, the work with its progress, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from ..choices import Method
from ..errors import UsageError
from ..frozen import frozen
from . import options
from .console import (
    counted,
    digest_text,
    is_silent,
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
    from ..verbs import ComponentResult, ConversionPreview, Job, Preview

    CarryOut = Callable[..., tuple[ComponentResult, ...]]

SHOWN_NAMES = 3
"""The number of companion files left behind that are named."""


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

    execution, most = limits(merge)
    started = time.monotonic()
    with opening as job:
        preview = verbs.preview(job, merge.threads, most, execution.reserved_memory)
        if merge.dry_run:
            _show_plan(job, preview, merge, facts or {})
            return ()
        if merge.verbose:
            _say_plan(job, preview, output, merge.quiet)
        with working(preview, execution, merge, output) as planned:
            make_it = carry_out or partial(verbs.carry_out, force=merge.force)
            made = make_it(job, execution=planned)
    size, seconds = preview.read + preview.written, time.monotonic() - started
    report_result(output, made, preview, size, seconds, merge)
    if merge.json:
        put_json({**made_json(output, made), **(facts or {})})
    return made


def _show_plan(job: Job, preview: Preview, merge: MergeOptions, facts: Mapping[str, Any]) -> None:
    """Print the plan on stdout: it is the result of a dry run."""
    from ..merge.preflight import require_free
    from .preview_report import SHOWN_TENSORS, preview_json, preview_lines

    require_free(job, force=merge.force)
    report_widened([preview], merge.quiet)
    if merge.json:
        put_json({**preview_json(preview), **facts})
        return
    for line in preview_lines(preview, None if merge.verbose else SHOWN_TENSORS):
        put(line)


def _say_plan(job: Job, preview: Preview, output: str, quiet: bool) -> None:
    """Report the plan before the work."""
    from ..merge.preflight import file_system_lacks
    from .preview_report import preview_lines

    for line in preview_lines(preview, None):
        say(line, quiet)
    for lack in file_system_lacks(job):
        say(f"soupctl: {output}: its file system has {lack}", quiet)


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


def report_result(
    output: str,
    made: Sequence[ComponentResult],
    preview: Preview,
    size: int,
    seconds: float,
    printing: MergeOptions | options.PrintOptions,
) -> None:
    """Report a soup on stderr: its digests, the bytes and seconds it took, and remarks."""
    quiet = printing.quiet
    silent = is_silent(quiet, printing.verbose)
    report_made(output, made, verbose=printing.verbose, quiet=silent)
    report_bytes(size, seconds, silent)
    for each in made:
        report_error(output, each.error, quiet)
        report_integers(each, quiet)
    report_widened([preview], quiet)
    report_left_behind(preview, quiet)
    for note in preview.notes:
        say(f"soupctl: {note}", quiet)


def report_widened(previews: Sequence[Preview], quiet: bool) -> None:
    """Report mixed dtypes whose common dtype is wider than either."""
    for each in dict.fromkeys(each for preview in previews for each in preview.widened):
        mixed = " with ".join(each.dtypes)
        instead = f"avg --dtype {each.instead.lower()} makes {each.instead}"
        say(f"soupctl: {mixed} becomes {each.out}, which takes more room ({instead})", quiet)


def report_left_behind(preview: ConversionPreview | Preview, quiet: bool) -> None:
    """Report companion files that were not copied."""
    if preview.left_behind:
        files = counted(len(preview.left_behind), "file")
        some = ", ".join(preview.left_behind[:SHOWN_NAMES])
        rest = len(preview.left_behind) - SHOWN_NAMES
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
