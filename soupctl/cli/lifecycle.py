"""`soupctl add`, `subtract` and `swap`: words in, one call, words out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import options
from .history import Component, Search, Soup
from .making import Making, make, require_output
from .render import say

if TYPE_CHECKING:
    from ..verbs import Revision

Approximate = Annotated[
    bool,
    typer.Option("--approximate/--exact", help="Compute with the rounded soup, or never do."),
]
Count = Annotated[
    int | None,
    typer.Option("--count", help="A soup without a ledger holds N models.", metavar="N", min=1),
]
Total = Annotated[
    str | None,
    typer.Option("--total", help="A soup without a ledger has this weight.", metavar="W"),
]
Variant = Annotated[str | None, typer.Option(help="Prefer files of this variant.", metavar="NAME")]


def add(
    soup: Soup,
    inputs: Annotated[
        list[str],
        typer.Argument(help="Checkpoints, each with an optional @WEIGHT.", metavar="NEW..."),
    ],
    output: options.Output = None,
    again: Annotated[bool, typer.Option("--again", help="Also what is in already.")] = False,
    search: Search = None,
    approximate: Approximate = False,
    count: Count = None,
    total: Total = None,
    component: Component = None,
    variant: Variant = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    threads: options.Threads = None,
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
        approximate=approximate,
        total=_total(count, total),
        again=again,
        component=component,
        variant=variant,
    )
    making = Making(str(revision.output), force, dry_run, json, threads, max_memory, quiet, verbose)
    _revise(revision, making)


def subtract(
    soup: Soup,
    removed: Annotated[
        list[str],
        typer.Argument(
            help="Files, digests or names, each with an optional @WEIGHT.", metavar="X..."
        ),
    ],
    output: options.Output = None,
    search: Search = None,
    approximate: Approximate = False,
    count: Count = None,
    total: Total = None,
    component: Component = None,
    variant: Variant = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    threads: options.Threads = None,
    max_memory: options.MaxMemory = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Take ingredients out of a soup, exactly.

    Example: soupctl subtract soup.safetensors dogs.safetensors -o without.safetensors
    """
    from .. import verbs

    revision = verbs.Revision(
        operation="subtract",
        soup=soup,
        output=require_output(output, json and not dry_run),
        removed=[verbs.Removal(*options.split_weight(text)) for text in removed],
        search=tuple(map(Path, search or ())),
        approximate=approximate,
        total=_total(count, total),
        component=component,
        variant=variant,
    )
    making = Making(str(revision.output), force, dry_run, json, threads, max_memory, quiet, verbose)
    _revise(revision, making)


def swap(
    soup: Soup,
    old: Annotated[str, typer.Argument(help="A file, digest or name.", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="The checkpoint in its place.", metavar="NEW")],
    output: options.Output = None,
    search: Search = None,
    approximate: Approximate = False,
    count: Count = None,
    total: Total = None,
    component: Component = None,
    variant: Variant = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    threads: options.Threads = None,
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
        approximate=approximate,
        total=_total(count, total),
        component=component,
        variant=variant,
    )
    making = Making(str(revision.output), force, dry_run, json, threads, max_memory, quiet, verbose)
    _revise(revision, making)


def _total(count: int | None, total: str | None) -> Fraction | None:
    """The weight that a soup without a ledger is said to have."""
    if count is not None and total is not None:
        raise UsageError("--count and --total say the same", advice="give one of them")
    if total is not None:
        from ..soup.weights import parse_weight

        return parse_weight(total)
    return None if count is None else Fraction(count)


def _revise(revision: Revision, making: Making) -> None:
    """Make the changed soup, and say so where it is not exact."""
    from .. import verbs

    made = make(verbs.open_revision(revision), making)
    if any(not each.ledger.exact for each in made):
        say(f"soupctl: {revision.output}: approximate: {APPROXIMATE}", making.quiet)


APPROXIMATE = "a rounded soup was computed with, which may leave a trace of what was taken out"
