"""`soupctl add`, `subtract` and `swap`: words in, one call, words out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import options
from .console import say
from .history import Component, Search, Soup
from .merge_output import Making, make, require_output

if TYPE_CHECKING:
    from ..verbs import ComponentResult, LeaveOneOut, Revision

Approximate = Annotated[
    bool | None,
    typer.Option(
        "--approximate/--exact",
        help="Compute with the rounded soup, or never do; default: never.",
    ),
]
Again = Annotated[bool, typer.Option("--again", help="Also what is in already.")]
Count = Annotated[
    int | None,
    typer.Option("--count", help="A soup without a ledger holds N models.", metavar="N", min=1),
]
Total = Annotated[
    str | None,
    typer.Option("--total", help="A soup without a ledger has this weight.", metavar="W"),
]
Variant = Annotated[str | None, typer.Option(help="Prefer files of this variant.", metavar="NAME")]
Each = Annotated[
    bool,
    typer.Option("--each", help="Each in turn, into an output with {name} in it."),
]


def add(
    soup: Soup,
    inputs: Annotated[
        list[str],
        typer.Argument(help="Checkpoints, each with an optional @WEIGHT.", metavar="NEW..."),
    ],
    output: options.Output = None,
    again: Again = False,
    search: Search = None,
    keep_sum: options.KeepSum = None,
    approximate: Approximate = None,
    count: Count = None,
    total: Total = None,
    component: Component = None,
    variant: Variant = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    max_memory: options.MaxMemory = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Put checkpoints into a soup, exactly.

    Example: soupctl add soup.safetensors new.safetensors -o more.safetensors
    """
    from .. import verbs

    revision = verbs.Revision(
        operation="add",
        soup=soup,
        output=require_output(output, json and not dry_run),
        added=[verbs.Addition(*options.split_weight(text)) for text in inputs],
        search=tuple(map(Path, search or ())),
        approximate=bool(approximate),
        total=_total(count, total, approximate),
        again=again,
        keep_sum=keep_sum,
        component=component,
        variant=variant,
    )
    making = Making(
        str(revision.output), force, dry_run, json, threads, device, max_memory, quiet, verbose
    )
    _revise(revision, making)


def subtract(
    soup: Soup,
    removed: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, digests or names, each with an optional @WEIGHT.", metavar="X..."
        ),
    ] = None,
    output: options.Output = None,
    each: Each = False,
    search: Search = None,
    keep_sum: options.KeepSum = None,
    approximate: Approximate = None,
    count: Count = None,
    total: Total = None,
    component: Component = None,
    variant: Variant = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    max_memory: options.MaxMemory = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Take ingredients out of a soup, exactly.

    Example: soupctl subtract soup.safetensors dogs.safetensors -o without.safetensors

    Example: soupctl subtract soup.safetensors --each -o 'without-{name}'
    """
    from .. import verbs

    declared = _total(count, total, approximate)
    target = require_output(output, json and not dry_run)
    making = Making(target, force, dry_run, json, threads, device, max_memory, quiet, verbose)
    places = tuple(map(Path, search or ()))
    if each:
        _require_alone(removed, declared, keep_sum)
        family = verbs.LeaveOneOut(soup, target, places, bool(approximate), component, variant)
        _leave_out_each(family, making)
        return
    if not removed:
        raise UsageError(
            "nothing to take out is given",
            advice="name an ingredient; --each leaves each out in turn",
        )
    revision = verbs.Revision(
        operation="subtract",
        soup=soup,
        output=target,
        removed=[verbs.Removal(*options.split_weight(text)) for text in removed],
        search=places,
        approximate=bool(approximate),
        total=declared,
        keep_sum=keep_sum,
        component=component,
        variant=variant,
    )
    _revise(revision, making)


def _require_alone(
    removed: list[str] | None, declared: Fraction | None, keep_sum: bool | None
) -> None:
    """Raise UsageError for what makes no sense where every ingredient is taken out in turn."""
    if removed:
        raise UsageError("--each takes out every ingredient in turn", advice="name none")
    if declared is not None:
        raise UsageError(
            "--each needs the ledger of a soup; --count and --total are for one without"
        )
    if keep_sum:
        raise UsageError("--each keeps no sums", advice="leave out --keep-sum")


def swap(
    soup: Soup,
    old: Annotated[str, typer.Argument(help="A file, digest or name.", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="The checkpoint in its place.", metavar="NEW")],
    output: options.Output = None,
    again: Again = False,
    search: Search = None,
    keep_sum: options.KeepSum = None,
    approximate: Approximate = None,
    count: Count = None,
    total: Total = None,
    component: Component = None,
    variant: Variant = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    max_memory: options.MaxMemory = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Exchange one ingredient of a soup for another, in its weight.

    Example: soupctl swap soup.safetensors dogs.safetensors dogs-v2.safetensors -o new.safetensors
    """
    from .. import verbs

    what, weight = options.split_weight(old)
    revision = verbs.Revision(
        operation="swap",
        soup=soup,
        output=require_output(output, json and not dry_run),
        added=[verbs.Addition(*options.split_weight(new))],
        removed=[verbs.Removal(what, weight)],
        search=tuple(map(Path, search or ())),
        approximate=bool(approximate),
        total=_total(count, total, approximate),
        again=again,
        keep_sum=keep_sum,
        component=component,
        variant=variant,
    )
    making = Making(
        str(revision.output), force, dry_run, json, threads, device, max_memory, quiet, verbose
    )
    _revise(revision, making)


def _total(count: int | None, total: str | None, approximate: bool | None) -> Fraction | None:
    """The weight that a soup without a ledger is said to have."""
    if count is not None and total is not None:
        raise UsageError("--count and --total say the same", advice="give one of them")
    if approximate is False and (count is not None or total is not None):
        what = "a soup without a ledger is computed with as it is, which is never exact"
        raise UsageError(what, advice="leave out --exact")
    if total is not None:
        from ..ledger.weights import parse_weight

        return parse_weight(total)
    return None if count is None else Fraction(count)


def _revise(revision: Revision, making: Making) -> None:
    """Make the changed soup, and say so where it is not exact."""
    from .. import verbs

    _tell_approximate(make(verbs.open_revision(revision), making), making)


def _leave_out_each(family: LeaveOneOut, making: Making) -> None:
    """The same for every soup without one ingredient."""
    from .leave_one_out import leave_out_each

    _tell_approximate(leave_out_each(family, making), making)


def _tell_approximate(made: Sequence[ComponentResult], making: Making) -> None:
    if any(not each.ledger.exact for each in made):
        say(f"soupctl: {making.output}: approximate: {APPROXIMATE}", making.quiet)


APPROXIMATE = "a rounded soup was computed with, which may leave a trace of what was taken out"
