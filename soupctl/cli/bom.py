"""`soupctl bom`: the bill of materials of a soup, and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import options
from .console import is_terminal, say
from .progress import read_bar


def bom(
    soup: options.LocalSoup,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Output file, such as bom.json.", metavar="OUTPUT"),
    ] = None,
    model_card: Annotated[
        bool,
        typer.Option("--model-card", help="Write README.md, a model card, into the soup's folder."),
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the bill of materials of a soup: CycloneDX, as JSON.

    It lists the soup's files with their hashes, its ingredients with their weights, and the data
    that they were trained on, as the ledger has them. `verify` checks the ledger. With
    `--model-card`, the card says the same for people.

    Example: soupctl bom soup.safetensors -o bom.json
    """
    if output is None and not model_card:
        raise UsageError("there is nothing to write", advice="-o bom.json, --model-card or both")
    if output in ("", "-"):
        raise UsageError(f"-o {output!r} names no file", advice="-o bom.json")
    from .. import verbs

    request = verbs.DescribeRequest(
        soup=options.named(soup),
        output=None if output is None else Path(output),
        card=model_card,
    )
    with read_bar(quiet):
        written = verbs.describe(request, force=force)
    for path in written:
        say(f"{path}: written", quiet or not is_terminal())
