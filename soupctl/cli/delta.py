"""`soupctl delta`: subtracts a base from a fine-tuned checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import (
    counted,
    digest_text,
    is_silent,
    is_terminal,
    put,
    put_json,
    put_lines,
    say,
    size_text,
)
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, require_output
from .option_groups import with_option_groups
from .preview_report import work_json, work_lines
from .work import limits, working

if TYPE_CHECKING:
    from ..verbs import DeltaJob, DeltaPreview, DeltaResult


@with_option_groups
def delta(
    fine: Annotated[
        str, typer.Argument(help="A fine-tuned checkpoint.", metavar="FINE"), CHECKPOINTS
    ],
    base: Annotated[
        str,
        typer.Argument(help="The base checkpoint that it was fine-tuned from.", metavar="BASE"),
        CHECKPOINTS,
    ],
    output: options.Output = None,
    key: options.Key = None,
    exclude: options.Exclude = None,
    component: options.Component = None,
    variant: options.Variant = None,
    allow_nonfinite: Annotated[
        bool,
        typer.Option("--allow-nonfinite", help="Store tensors with NaN or infinity whole."),
    ] = False,
    ignore_ledger: options.IgnoreLedger = False,
    *,
    merge: MergeOptions,
) -> None:
    """Subtract a base from a fine-tuned checkpoint, exactly.

    `apply` adds such a delta to the base again, or to others, times any scale. For two pipelines,
    the delta is a folder with one delta per component.

    Example: soupctl delta cats.safetensors base.safetensors -o cats.delta
    """
    output = require_output(output, merge)
    from .. import verbs

    request = verbs.DeltaRequest(
        fine=options.named(fine),
        base=options.named(base),
        output=output,
        keys=tuple(key or ()),
        excludes=tuple(exclude or ()),
        allow_nonfinite=allow_nonfinite,
        component=component,
        variant=variant,
        ignore_ledger=ignore_ledger,
    )
    make(verbs.open_delta_job(request), output, merge)


def make(opening: AbstractContextManager[DeltaJob], output: str, merge: MergeOptions) -> None:
    """Carry out the job that `opening` yields and report the result; only the plan in a dry run."""
    from .. import verbs
    from ..merge.delta.make import require_free

    execution, most = limits(merge)
    with opening as job:
        found = verbs.preview_delta(job, merge.threads, most, execution.reserved_memory)
        if merge.dry_run:
            require_free(job, force=merge.force)
            _show_preview(found, output, json=merge.json)
            return
        with working(found, execution, merge, output) as planned:
            made = verbs.subtract_base(job, force=merge.force, execution=planned)
    for each in made:
        for line in _lines(output, each, verbose=merge.verbose):
            say(line, is_silent(merge.quiet, merge.verbose))
    if merge.json:
        put_json(_json(output, made))


def _show_preview(found: DeltaPreview, output: str, *, json: bool) -> None:
    """Print the plan on stdout: it is the result of a dry run."""
    if json:
        put_json(
            {
                "output": output,
                **work_json(found),
                "tensors": found.tensors,
                "left_out": found.left_out,
            }
        )
        return
    put(f"output   {output}")
    put_lines(work_lines(found))
    left_out = f", {found.left_out} left out" if found.left_out else ""
    put(f"tensors  {found.tensors}{left_out}")


def _lines(output: str, made: DeltaResult, *, verbose: bool) -> Iterator[str]:
    whole = verbose or not is_terminal()
    kept = f", {counted(made.whole, 'tensor')} kept whole" if made.whole else ""
    digest = digest_text(made.ledger.root, whole=whole)
    changed = f"{counted(made.changed, 'difference')}{kept}, {made.equal} equal"
    title = f"{output}: {made.name}" if made.name else output
    yield f"{title}: delta of {changed}, {digest}"
    yield f"{size_text(made.written)} written"


def _json(output: str, made: Sequence[DeltaResult]) -> dict[str, Any]:
    """The result of the only component, or of each by its name."""
    if len(made) == 1:
        return {"output": output, **_component_json(made[0])}
    components = [{"name": each.name, **_component_json(each)} for each in made]
    return {"output": output, "components": components}


def _component_json(made: DeltaResult) -> dict[str, Any]:
    from .console import entry_json

    return {
        "digest": made.ledger.root,
        "base": made.ledger.base,
        "ingredients": list(map(entry_json, made.ledger.ingredients)),
        "differences": made.changed,
        "whole": made.whole,
        "equal": made.equal,
        "bytes_read": made.read,
        "bytes_written": made.written,
    }
