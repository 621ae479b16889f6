"""Several soups in one pass: `soupctl subtract --each`, and `soupctl avg --sweep`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .console import counted, is_silent, put, put_json, say
from .merge_output import (
    MergeOptions,
    made_json,
    report_bytes,
    report_error,
    report_integers,
    report_left_behind,
    report_made,
    report_widened,
)
from .preview_report import (
    SHOWN_TENSORS,
    contents_json,
    contents_lines,
    memory_line,
    share_lines,
    size_lines,
)
from .work import limits, working

if TYPE_CHECKING:
    from ..verbs import ComponentResult, Job, LeaveOneOut, Rounds, Sweep


def leave_out_each(family: LeaveOneOut, merge: MergeOptions) -> tuple[ComponentResult, ...]:
    """Make every soup and report the results; none in a dry run."""
    from .. import verbs

    with verbs.open_family(family) as members:
        names = [{"without": member.name} for member in members]
        return make_together(names, [member.job for member in members], merge)


def sweep(asked: Sweep, merge: MergeOptions) -> tuple[ComponentResult, ...]:
    """Make a soup of two ingredients for each share, and report them; none in a dry run."""
    from .. import verbs

    with verbs.open_sweep(asked) as soups:
        names = [{"share": str(each.share)} for each in soups]
        return make_together(names, [each.job for each in soups], merge)


def make_together(
    names: Sequence[dict[str, str]], jobs: Sequence[Job], merge: MergeOptions
) -> tuple[ComponentResult, ...]:
    """Carry out jobs that share inputs; `names` identify them in JSON."""
    from .. import verbs
    from ..merge.rounds import require_places

    execution, most = limits(merge)
    started = time.monotonic()
    rounds = verbs.arrange(jobs, merge.threads, most, execution.reserved_memory)
    if merge.dry_run:
        require_places(rounds.jobs, force=merge.force)
        report_widened(rounds.previews, merge.quiet)
        _show_plan(names, rounds, merge)
        return ()
    if merge.verbose:
        for line in _lines(rounds, None):
            say(line, merge.quiet)
    with working(rounds, execution, merge) as planned:
        made = verbs.carry_out_together(rounds, force=merge.force, execution=planned)
    _report(rounds, made, merge)
    silent = is_silent(merge.quiet, merge.verbose)
    report_bytes(rounds.read + rounds.written, time.monotonic() - started, silent)
    if merge.json:
        outputs = [
            {**name, **made_json(preview.output, each)}
            for name, preview, each in zip(names, rounds.previews, made, strict=True)
        ]
        put_json({"outputs": outputs})
    return tuple(each for some in made for each in some)


def _report(rounds: Rounds, made: Sequence[Sequence[ComponentResult]], merge: MergeOptions) -> None:
    """Report every soup; companion files, which are the same for all, once."""
    silent = is_silent(merge.quiet, merge.verbose)
    for preview, some in zip(rounds.previews, made, strict=True):
        report_made(preview.output, some, verbose=merge.verbose, quiet=silent)
        for each in some:
            report_error(preview.output, each.error, merge.quiet)
            report_integers(each, merge.quiet)
    report_widened(rounds.previews, merge.quiet)
    report_left_behind(rounds.previews[0], merge.quiet)
    for preview in rounds.previews:
        for note in preview.notes:
            say(f"soupctl: {preview.output}: {note}", merge.quiet)


def _show_plan(names: Sequence[dict[str, str]], rounds: Rounds, merge: MergeOptions) -> None:
    """Print the plan on stdout: it is the result of a dry run."""
    if not merge.json:
        for line in _lines(rounds, None if merge.verbose else SHOWN_TENSORS):
            put(line)
        return
    put_json(
        {
            "bytes_to_read": rounds.read,
            "bytes_to_write": rounds.written,
            "memory": rounds.memory,
            "threads": rounds.threads,
            "free_disk": rounds.previews[0].free_disk,
            "rounds": len(rounds.rounds),
            "outputs": [
                {**name, "output": preview.output, **contents_json(preview)}
                for name, preview in zip(names, rounds.previews, strict=True)
            ],
        }
    )


def _lines(rounds: Rounds, most: int | None) -> Iterator[str]:
    for preview in rounds.previews:
        yield from share_lines(preview)
        yield from contents_lines(preview, most)
    yield from size_lines(rounds.read, rounds.written, rounds.previews[0].free_disk)
    times = counted(len(rounds.rounds), "round")
    yield f"{memory_line(rounds.memory, rounds.threads)}, {times}"
