"""`soupctl has` and `log`: the ingredients of a soup, and its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import completion, options
from .console import (
    UNDIVIDED,
    by_block,
    counted,
    digest_text,
    entry_json,
    method_json,
    put,
    put_json,
    put_lines,
    role_text,
    share_text,
    shares_json,
    shows_whole_digests,
    weight_json,
)
from .hub_option import CHECKPOINTS
from .option_groups import with_option_groups
from .progress import read_bar

if TYPE_CHECKING:
    from fractions import Fraction

    from ..ledger.ledger import IngredientEntry, Ledger
    from ..ledger.training_record import TrainingRecord
    from ..verbs import Answer

DEEPEST_INDENT = 40
"""Levels of nested soups that `log --tree` indents; deeper ones are shown at the last level."""

Soup = Annotated[
    str, typer.Argument(help="A soup: a file or a folder.", metavar="SOUP"), CHECKPOINTS
]
LocalSoup = Annotated[str, typer.Argument(help="A soup: a file or a folder.", metavar="SOUP")]
"""For commands that need its files on this disk."""
Moved = Annotated[
    list[str] | None,
    typer.Argument(help="Ingredients that have moved since the soup was made.", metavar="X..."),
    CHECKPOINTS,
]
Search = Annotated[
    list[str] | None,
    typer.Option("--search", help="Also look for ingredients in this folder.", metavar="DIR"),
]


@with_option_groups
def has(
    soup: Soup,
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


@with_option_groups
def log(
    soup: Soup,
    tree: Annotated[
        bool,
        typer.Option("--tree", help="Also show the ingredients of ingredients that are soups."),
    ] = False,
    recipe: Annotated[
        bool,
        typer.Option("--recipe", help="Print a recipe from which run makes the soup again."),
    ] = False,
    component: options.Component = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show the history of a soup and its ingredients.

    Example: soupctl log soup.safetensors --tree
    """
    from .. import verbs

    if recipe:
        put_lines(list(verbs.recipe_of_soup(soup, component=component)))
        return
    found = verbs.history(soup, component=component)
    if json:
        put_json({"soup": soup, "components": [_log_json(*each) for each in found]})
        return
    whole = shows_whole_digests(verbose)
    for path, ledger in found:
        exactness = "exact" if ledger.exact else "approximate"
        put(f"{path}  {digest_text(ledger.root, whole=whole)}  {exactness}")
        put_lines(_chain_lines(ledger, whole=whole, verbose=verbose), "  ")
        ancestors = ledger.ancestors if tree else {}
        put_lines(_ingredient_lines(ledger, ancestors, whole=whole), "  ")
        for label, text in chain(
            donor_lines(ledger, whole=whole), config_lines(ledger, whole=whole)
        ):
            put(f"  {label:9} {text}")


def _chain_lines(ledger: Ledger, *, whole: bool, verbose: bool) -> Iterator[str]:
    """A line for each operation, oldest first: its changes and, if `verbose`, its result."""
    if ledger.training is not None:
        yield f"trained   {training_text(ledger.training, whole=whole)}"
        return
    for number, record in enumerate(ledger.states):
        changed = record.changed
        parts = [
            f"{'+' if each.weight > 0 else ''}{each.weight} {each.name}"
            f"{' (others by block)' if each.blocks else ''}"
            for each in changed
        ]
        if not changed:
            parts = [counted(len(ledger.ingredients), "ingredient")]
            parts += [] if ledger.method is None else [ledger.method.text]
        if number == 0 and not ledger.normalize:
            parts.append(UNDIVIDED)
        exactness = "" if record.exact else "  (approximate)"
        yield f"{record.operation:9} {', '.join(parts)}{exactness}"
        if verbose:
            yield f"          result {record.root}"


def _ingredient_lines(
    ledger: Ledger, ancestors: Mapping[str, Ledger], *, whole: bool
) -> Iterator[str]:
    """A line for each ingredient with its share; below it, its own ingredients or its dataset.

    An ingredient that several soups share is expanded once.
    """
    shown: set[str] = set()
    disputed = set(ledger.disputed)
    waiting = [(0, ledger, _with_shares(ledger))]
    while waiting:
        depth, holder, entries = waiting[-1]
        found = next(entries, None)
        if found is None:
            waiting.pop()
            continue
        entry, part = found
        indent = "    " * min(depth, DEEPEST_INDENT)
        share = f"{share_text(part)}  {entry.name}"
        digest = digest_text(entry.digest, whole=whole)
        doubt = "  (its sources contradict each other)" if entry.digest in disputed else ""
        stored = "".join(f", {scheme}" for scheme in entry.schemes)
        yield f"{indent}{share}  ({role_text(holder, entry)}, {digest}{stored}){doubt}"
        below = ancestors.get(entry.digest)
        if below is None:
            continue
        if entry.digest in shown:
            yield f"{indent}    (shown above)"
            continue
        shown.add(entry.digest)
        if below.training is not None:
            yield f"{indent}    trained   {training_text(below.training, whole=whole)}"
        waiting.append((depth + 1, below, _with_shares(below)))


def _with_shares(ledger: Ledger) -> Iterator[tuple[IngredientEntry, Fraction | None]]:
    return zip(ledger.ingredients, ledger.known_shares, strict=True)


def donor_lines(ledger: Ledger, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Label and text for each donor, with the globs of the tensors taken from it."""
    for entry in ledger.donors:
        taken = f"{ledger.taken_from(entry.digest)} from {entry.name}"
        yield "taken", f"{taken}  ({digest_text(entry.digest, whole=whole)})"


def config_lines(ledger: Ledger, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Label and text for the ingredient chosen by --config-from, if there is one."""
    for entry in ledger.ingredients:
        if entry.digest == ledger.config_from:
            yield "configs", f"those of {entry.name}  ({digest_text(entry.digest, whole=whole)})"


def training_text(training: TrainingRecord, *, whole: bool) -> str:
    """The base and dataset of a trained checkpoint."""
    images, steps = counted(training.samples, "image"), counted(training.steps, "step")
    data = digest_text(training.data, whole=whole)
    base = digest_text(training.base, whole=whole)
    return f"{steps} on {training.data_name} ({images}, {data}) from {base}"


def _log_json(path: str, ledger: Ledger) -> dict[str, Any]:
    known = {ledger.root: ledger, **ledger.ancestors}
    trained = {root: asdict(each.training) for root, each in known.items() if each.training}
    return {
        "path": path,
        "digest": ledger.root,
        "exact": ledger.exact,
        "chain": [
            {
                "operation": record.operation,
                "digest": record.root,
                "exact": record.exact,
                "changed": [
                    {"digest": each.digest, "name": each.name, **weight_json(each)}
                    for each in record.changed
                ],
            }
            for record in ledger.states
        ],
        "ingredients": shares_json(ledger),
        **({"blocks": list(ledger.blocks)} if ledger.blocks else {}),
        "ancestors": {root: shares_json(ancestor) for root, ancestor in ledger.ancestors.items()},
        **({"donors": list(map(entry_json, ledger.donors))} if ledger.donors else {}),
        **({"configs": ledger.config_from} if ledger.config_from else {}),
        **method_json(ledger),
        **({} if ledger.normalize else {"normalize": False}),
        **({"trained": trained} if trained else {}),
        **({"disputed": list(ledger.disputed)} if ledger.disputed else {}),
    }
