"""The model card of a soup in a folder, as the Hugging Face Hub reads it.

Rule 1: names are text of others: they cannot end a table, a block of code or the metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ..errors import LedgerError
from ..ledger.ledger import Ledger
from ..merge.recipes.export import recipe_of
from ..pattern import pattern
from .ledger_record import removed

CARD = "README.md"
REPOSITORY = pattern(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?=[@/]|$)", re.ASCII)
"""Matches the repository in the hint of an ingredient."""
UNSAFE = pattern(r"[^\w ./:@+,()=-]")


def card_text(name: str, ledgers: Sequence[tuple[str, Ledger]], *, is_pipeline: bool) -> str:
    """The card of a soup: what it is made of, and how to check that."""
    repositories = _repositories(ledgers)
    # a text in JSON is one in YAML
    bases = ["base_model:", *(f"- {json.dumps(each)}" for each in repositories)]
    lines = [
        "---",
        *([*bases, "base_model_relation: merge"] if repositories else []),
        *(["library_name: diffusers"] if is_pipeline else []),
        "tags:",
        "- merge",
        "- soupctl",
        "---",
        "",
        f"# {_plain(name)}",
        "",
        f"A soup: {_made(ledgers)} the checkpoints below. Each file holds a ledger, and",
        "`soupctl verify` checks the tensors against it.",
    ]
    for part, ledger in ledgers:
        lines += ["", f"## {_plain(part) or 'Ingredients'}", "", *_part(ledger)]
    return "\n".join(lines) + "\n"


def _repositories(ledgers: Sequence[tuple[str, Ledger]]) -> list[str]:
    """The repositories of the hub that ingredients came from, which alone it takes for bases."""
    hints = [each.hint for _, ledger in ledgers for each in ledger.ingredients]
    found = [REPOSITORY.match(each) for each in hints if each is not None]
    return [*dict.fromkeys(each[1] for each in found if each is not None)]


def _made(ledgers: Sequence[tuple[str, Ledger]]) -> str:
    """How the ingredients became one."""
    methods = sorted({each.method.text for _, each in ledgers if each.method is not None})
    if methods:
        return f"the merge by {', '.join(methods)} of"
    is_mean = all(each.normalize for _, each in ledgers)
    return f"the weighted {'average' if is_mean else 'sum'} of"


def _part(ledger: Ledger) -> Iterator[str]:
    yield f"Ledger root: `{ledger.root}` ({'exact' if ledger.exact else 'approximate'})"
    yield ""
    yield "| ingredient | weight | share | content | trained on |"
    yield "|---|---|---|---|---|"
    for entry, share in zip(ledger.ingredients, ledger.known_shares, strict=True):
        known = ledger.ancestors.get(entry.digest)
        training = None if known is None else known.training
        data = "" if training is None else f"{_plain(training.data_name)} (`{training.data}`)"
        by_block = " and others by block" if entry.blocks else ""
        part = "" if share is None else str(share)
        cells = [_plain(entry.name), f"{entry.weight}{by_block}", part]
        yield f"| {' | '.join([*cells, f'`{entry.digest}`', data])} |"
    for each in removed(ledger):
        yield ""
        yield f"Removed: {_plain(each['name'])} (weight {each['weight']})"
    # a soup that no recipe describes has none
    with suppress(LedgerError):
        recipe = [_printable(line) for line in recipe_of(ledger, "soup")]
        yield from ("", "```toml", *recipe, "```")


def _plain(text: str) -> str:
    """The text without anything that means something in Markdown."""
    return UNSAFE.sub("_", text)


def _printable(line: str) -> str:
    """A line of a recipe, which cannot end its block."""
    return "".join(each if each.isprintable() else "?" for each in line).replace("```", "???")
