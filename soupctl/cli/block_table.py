"""Tables of weights by block, as lines and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .console import counted

if TYPE_CHECKING:
    from ..merge.blocks.table import BlockRow

CELLS = 20
"""Width of a bar in characters."""
SHADES, LETTERS = "█░▓▒", "#.=+"
"""The marks of bars on a terminal, and in pipes and files: one for each ingredient."""


def row_lines(rows: Sequence[BlockRow]) -> Iterator[str]:
    """A line for each block: its tensors, and the share of each ingredient in their order."""
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        yield f"{row.name:{width}}  {counted(row.tensors, 'tensor'):12}{_shares(row)}"


def bar_lines(rows: Sequence[BlockRow], names: Sequence[str]) -> Iterator[str]:
    """A line with a bar for each block, below a legend of the ingredients' marks.

    There are no bars where the marks do not suffice, weights are negative, or deltas are added.
    """
    marks = SHADES if sys.stdout.isatty() else LETTERS
    width = max((len(row.name) for row in rows), default=0)
    drawn = len(names) <= len(marks) and all(row.normalize and not any(row.added) for row in rows)
    if drawn and rows:
        yield "  ".join(f"{mark} {name}" for mark, name in zip(marks, names, strict=False))
    for row in rows:
        bar = f"  {_bar(row.shares, marks)}" if drawn else ""
        yield f"{row.name:{width}}{bar}{_shares(row)}"


def _shares(row: BlockRow) -> str:
    return "".join(f"  {float(share):8.3%}" for share in row.shares)


def _bar(shares: Sequence[Fraction], marks: str) -> str:
    if min(shares) < 0:
        return " " * CELLS
    bar, end = "", Fraction(0)
    for share, mark in zip(shares, marks, strict=False):
        end += share
        bar += mark * (round(end * CELLS) - len(bar))
    return bar


def rows_json(rows: Sequence[BlockRow]) -> dict[str, Any]:
    """The table as a field of JSON; nothing without rows."""
    if not rows:
        return {}
    listed = [
        {
            "block": row.name,
            "globs": list(row.globs),
            "tensors": row.tensors,
            "weights": [str(weight) for weight in row.weights],
            "shares": [float(share) for share in row.shares],
        }
        for row in rows
    ]
    return {"blocks": listed}
