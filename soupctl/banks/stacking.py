"""Stacks made of banks and other stacks, as a person names them.

Rule 1: a stack that goes into another is taken apart: its banks go in, by the names and with the
weights that they have there, so that taking out what was put in leaves the very stack before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import LedgerError, UsageError
from ..ledger.names import unique_names
from .bank import PromptBank
from .files import bank_digest, load_bank
from .inspect import BANK, bank_folder, is_stack_folder
from .stack import BankStack
from .stack_files import load_stack, save_stack


@dataclass(frozen=True, slots=True)
class _Member:
    """A bank that goes into a stack."""

    name: str
    weight: Fraction
    folder: Path


def stack_banks(
    inputs: Sequence[tuple[Path, Fraction]], target: Path, *, replace: bool
) -> BankStack:
    """The stack of banks with their weights, written as the folder `target`; see `save_stack`.

    A bank is called after its folder, or after that of its run; those of a stack keep their names,
    and their weights, times that of the stack. Raises UsageError for two banks of one name,
    LedgerError for a bank that is in one of the stacks already.
    """
    asked = _asked(inputs)
    stacks = {path: load_stack(path) for path in asked if is_stack_folder(path)}
    members = [
        _Member(name, asked[path] * own, path / name)
        for path, stack in stacks.items()
        for name, own in stack.weights.items()
    ]
    banks = {bank_folder(path): weight for path, weight in asked.items() if path not in stacks}
    new = _named(banks, [each.name for each in members])
    for each in new:
        _require_new(each.folder, stacks)
    found: dict[str, _Member] = {}
    for each in [*members, *new]:
        if (other := found.setdefault(each.name, each)) is not each:
            what = f"would be called {each.name} in the stack, as {other.folder} is"
            raise UsageError(what, path=each.folder, advice="copy it to a folder of another name")
    return save_stack(
        {name: each.folder for name, each in found.items()},
        {name: each.weight for name, each in found.items()},
        target,
        replace=replace,
    )


def leave_out(stack: Path, name: str, target: Path, *, replace: bool) -> BankStack:
    """The stack without one bank, written as `target`: the very files of one that never held it.

    Raises LedgerError if there is none of that name, and what `save_stack` raises.
    """
    rest = load_stack(stack).without(name)
    return save_stack(
        {other: stack / other for other in rest.weights}, rest.weights, target, replace=replace
    )


def _asked(inputs: Sequence[tuple[Path, Fraction]]) -> dict[Path, Fraction]:
    """The weight of each path, in order; one that is named twice counts as often."""
    first: dict[str, Path] = {}
    weights: dict[Path, Fraction] = {}
    for path, weight in inputs:
        known = first.setdefault(os.path.abspath(path), path)
        weights[known] = weights.get(known, Fraction(0)) + weight
    return weights


def _named(banks: Mapping[Path, Fraction], taken: Sequence[str]) -> list[_Member]:
    """Banks by the names that they are to have, of which none is taken."""
    folders = [Path(os.path.abspath(each)) for each in banks]
    shown = [each.parent if each.name == BANK else each for each in folders]
    names = unique_names([str(each) for each in shown], taken)
    return [
        _Member(name.replace("/", "-"), weight, folder)
        for name, (folder, weight) in zip(names, banks.items(), strict=True)
    ]


def _require_new(folder: Path, stacks: Mapping[Path, BankStack]) -> None:
    """Raise LedgerError if the bank in a folder is in one of the stacks already."""
    bank = load_bank(folder)
    for path, stack in stacks.items():
        for member in stack.members:
            if _is_same(bank, member.bank):
                what = f"is in {path} already, as {member.name}"
                raise LedgerError(what, path=folder, advice=f"--without {member.name} takes it out")


def _is_same(one: PromptBank, other: PromptBank) -> bool:
    return one.config == other.config and bank_digest(one) == bank_digest(other)
