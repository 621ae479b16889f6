"""`soupctl log`: the history of a soup, and its ingredients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import (
    UNDIVIDED,
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
from .ledger_lines import config_lines, donor_lines, training_text
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from fractions import Fraction

    from ..ledger.ledger import IngredientEntry, Ledger

DEEPEST_INDENT = 40
"""Levels of nested soups that `log --tree` indents; deeper ones are shown at the last level."""


@with_option_groups
def log(
    soup: options.Soup,
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
