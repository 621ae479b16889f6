"""The model card of a soup in a folder, as the Hugging Face Hub reads it.

Rule 1: names are text of others: they cannot end a table, a block of code or the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ..errors import LedgerError
from ..ledger.ledger import Ledger
from ..merge.recipes.export import recipe_of
from ..pattern import pattern
from .ledger_record import removed

CARD = "README.md"
UNSAFE = pattern(r"[^\w ./:@+,()=-]")


def card_text(name: str, ledgers: Sequence[tuple[str, Ledger]], *, is_pipeline: bool) -> str:
    """The card of a soup: what it is made of, and how to check that."""
    names = dict.fromkeys(each.name for _, ledger in ledgers for each in ledger.ingredients)
    lines = [
        "---",
        "base_model:",
        # a text in JSON is one in YAML
        *(f"- {json.dumps(each)}" for each in names),
        "base_model_relation: merge",
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
