"""`soupctl report`: one page about a soup, for a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..choices import Level
from ..errors import UsageError
from . import options
from .console import is_terminal, say
from .option_groups import with_option_groups
from .progress import read_bar


@with_option_groups
def report(
    soup: options.Soup,
    ingredients: options.Moved = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Output file, such as report.html.", metavar="OUTPUT"),
    ] = None,
    journal: Annotated[
        list[str] | None,
        typer.Option(help="Journal of scores that is not beside the soup.", metavar="FILE"),
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(help="Picture to show, such as a grid of samples.", metavar="IMAGE"),
    ] = None,
    level: Annotated[
        Level | None, typer.Option(help="Highest level to prove.  [default: as high as possible]")
    ] = None,
    search: options.Search = None,
    component: options.Component = None,
    variant: options.Variant = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    *,
    work: options.WorkOptions,
) -> None:
    """Write a page about a soup: proof, ingredients, ledger and scores.

    It is one HTML file that needs no network. It shows how far the soup is proven, what each
    ingredient contributes, weights by block, the ledger as a tree, and the scores of `greedy`,
    `search` and `rank` from the journals beside the soup.

    Example: soupctl report soup.safetensors -o report.html --samples grid.png
    """
    if output is None:
        raise UsageError("-o is required", advice="-o report.html")
    if output in ("", "-"):
        raise UsageError(f"-o {output!r} is not a file", advice="-o report.html")
    from .. import verbs

    execution = work.execution()
    asked = verbs.ReportRequest(
        soup=options.named(soup),
        ingredients=tuple(map(options.named, ingredients or ())),
        search=tuple(map(Path, search or ())),
        journals=tuple(Path(options.named(each)) for each in journal or ()),
        samples=tuple(Path(options.named(each)) for each in samples or ()),
        level=level,
        component=component,
        variant=variant,
    )
    with read_bar(quiet) as advance:
        execution = replace(execution, progress=advance)
        verbs.report(asked, Path(output), force=force, execution=execution)
    say(f"{output}: written", quiet or not is_terminal())
