"""`soupctl has`: whether a soup holds an ingredient, or was trained on data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import completion, options
from .console import (
    by_block,
    counted,
    digest_text,
    entry_json,
    put_json,
    put_lines,
    shows_whole_digests,
)
from .hub_option import CHECKPOINTS
from .option_groups import with_option_groups
from .progress import read_bar

if TYPE_CHECKING:
    from ..verbs import Answer


@with_option_groups
def has(
    soup: options.Soup,
    what: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, a data folder, an image, a digest or a name in the ledger.",
            metavar="X",
            autocompletion=completion.ingredients,
        ),
        CHECKPOINTS,
    ],
    search: Annotated[
        list[str] | None,
        typer.Option("--search", help="Also look for training runs in this folder.", metavar="DIR"),
    ] = None,
    component: options.Component = None,
    *,
    printing: options.PrintOptions,
) -> None:
    """Tell whether a soup holds an ingredient (exit code 0) or not (1).

    For an ingredient of an ingredient, it also shows the soup in between. For a data folder or an
    image, it tells which ingredients were trained on it. If neither yes nor no can be proven, the
    exit code is 2.

    Example: soupctl has soup.safetensors dogs.safetensors
    """
    from .. import verbs

    with read_bar(printing.quiet):
        answer = verbs.ask(
            soup, what, component=component, search=[Path(folder) for folder in search or ()]
        )
    if printing.json:
        put_json(_answer_json(soup, answer))
    elif not printing.quiet:
        put_lines(_answer_lines(soup, what, answer, verbose=printing.verbose))
    raise typer.Exit(0 if answer.holds else 1)


def _answer_lines(soup: str, what: str, answer: Answer, *, verbose: bool) -> Iterator[str]:
    """A line for each ingredient or data shard that matches; one line if there is none."""
    whole = shows_whole_digests(verbose)
    for entry in answer.entries:
        part = f"weight {entry.weight}{by_block(entry)}"
        part = part if entry.weights else "tensors are taken from it"
        yield f"{digest_text(entry.digest, whole=whole)}  {entry.name}  ({part})"
        if verbose and entry.hint is not None:
            yield f"  expected at {entry.hint}"
    for each in answer.data:
        data = f"{counted(each.samples, 'image')}, {digest_text(each.digest, whole=whole)}"
        place = f", as {', '.join(each.images)}" if each.images else ""
        yield f"  trained on {each.name} ({data}){place}"
    if not answer.holds:
        yield "; ".join([f"{what}: not in {soup}", *answer.notes])


def _answer_json(soup: str, answer: Answer) -> dict[str, Any]:
    return {
        "soup": soup,
        "holds": answer.holds,
        "ingredients": list(map(entry_json, answer.entries)),
        "data": [asdict(each) for each in answer.data],
        "notes": list(answer.notes),
    }
