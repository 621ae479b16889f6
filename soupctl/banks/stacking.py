"""Stacks made of banks as a person names them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ..soup.naming import unique_names
from .named import BANK, bank_folder
from .stack import BankStack
from .stack_files import load_stack, save_stack


def stack_banks(
    banks: Sequence[tuple[Path, Fraction]], target: Path, *, replace: bool
) -> BankStack:
    """The stack of banks with their weights, written as the folder `target`; see `save_stack`.

    A bank is called after its folder, or after that of its run. Raises SoupError.
    """
    folders = [bank_folder(path) for path, _ in banks]
    named = [each.parent if each.name == BANK else each for each in map(_absolute, folders)]
    names = [name.replace("/", "-") for name in unique_names([str(each) for each in named])]
    members: dict[str, Path] = {}
    weights: dict[str, Fraction] = {}
    for name, folder, (_, weight) in zip(names, folders, banks, strict=True):
        members[name] = folder
        # a bank that is named twice counts as often
        weights[name] = weights.get(name, Fraction(0)) + weight
    return save_stack(members, weights, target, replace=replace)


def leave_out(stack: Path, name: str, target: Path, *, replace: bool) -> BankStack:
    """The stack without one bank, written as `target`: the very files of one that never held it.

    Raises LedgerError if there is none of that name, and what `save_stack` raises.
    """
    rest = load_stack(stack).without(name)
    return save_stack(
        {other: stack / other for other in rest.weights}, rest.weights, target, replace=replace
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
