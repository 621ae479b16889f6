"""`soupctl avg --part` and `soupctl commit`: soups that several processes make."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import options
from .console import counted, is_silent, put_json, say
from .merge_output import MergeOptions, made_json, report_result
from .option_groups import with_option_groups
from .progress import progress
from .work import limits

if TYPE_CHECKING:
    from ..verbs import Request


def make_one_part(request: Request, text: str, output: str, merge: MergeOptions) -> None:
    """Make one part of a soup and report it."""
    if merge.dry_run:
        what = "--part and --dry-run exclude each other"
        raise UsageError(what, advice="leave out --part: the plan is that of all parts")
    from .. import verbs

    execution, most = limits(merge)
    with verbs.open_part(request, verbs.parse_part(text)) as planned:
        preview = verbs.preview(planned.job, merge.threads, most, execution.reserved_memory)
        with progress(planned.read + planned.written, merge.quiet) as advance:
            limited = replace(
                execution, threads=preview.threads, chunk=preview.chunk, progress=advance
            )
            path = verbs.make_part(planned, force=merge.force, execution=limited)
    part = planned.part
    silent = is_silent(merge.quiet, merge.verbose)
    say(f"{output}: part {part}, {counted(planned.tensors, 'tensor')}", silent)
    if merge.json:
        facts = {"output": output, "part": [part.number, part.count], "file": str(path)}
        sizes = {"bytes_read": planned.read, "bytes_written": planned.written}
        put_json({**facts, "tensors": planned.tensors, **sizes})


@with_option_groups
def commit(
    output: Annotated[
        str, typer.Argument(help="The soup, as the parts were made with -o.", metavar="OUTPUT")
    ],
    force: options.Force = False,
    threads: options.Threads = None,
    *,
    printing: options.PrintOptions,
) -> None:
    """Join the parts of a soup that avg --part has made.

    The soup has the same bytes as one that is made at once. Every digest is checked, and the soup
    appears whole or not at all; then its parts are removed.

    Example: soupctl commit soup.safetensors
    """
    from .. import verbs

    started = time.monotonic()
    with verbs.open_parted(options.named(output)) as parted:
        preview = verbs.preview(parted.job, threads)
        with progress(parted.read + parted.written, printing.quiet) as advance:
            execution = verbs.ExecutionOptions(preview.threads, progress=advance)
            made = verbs.commit(parted, force=force, execution=execution)
    size, seconds = parted.read + parted.written, time.monotonic() - started
    report_result(output, made, preview, size, seconds, printing)
    if printing.json:
        put_json(made_json(output, made))
