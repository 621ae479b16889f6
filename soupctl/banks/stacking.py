"""Stacks made of banks and of other stacks, by path.

Rule 1: the banks of a stack among the inputs keep their names and weights, so adding a bank and
removing it again gives the same stack as before.
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
class _BankToStack:
    """A bank to be stacked."""

    name: str
    weight: Fraction
    folder: Path


def stack_banks(
    inputs: Sequence[tuple[Path, Fraction]], target: Path, *, replace: bool
) -> BankStack:
    """Write the stack of these paths with their weights as `target`; see `save_stack`.

    A bank gets the name of its folder, or of its run; the banks of a stack keep their names, and
    their weights are multiplied by that of the stack. Raises UsageError for two banks with one
    name, LedgerError for a bank that one of the stacks already has.
    """
    weights = _weights_by_path(inputs)
    stacks = {path: load_stack(path) for path in weights if is_stack_folder(path)}
    members = [
        _BankToStack(name, weights[path] * own, path / name)
        for path, stack in stacks.items()
        for name, own in stack.weights.items()
    ]
    banks = {bank_folder(path): weight for path, weight in weights.items() if path not in stacks}
    new = _named(banks, [each.name for each in members])
    for each in new:
        _require_new(each.folder, stacks)
    found: dict[str, _BankToStack] = {}
    for each in [*members, *new]:
        if (other := found.setdefault(each.name, each)) is not each:
            what = f"and {other.folder} would both be named {each.name} in the stack"
            raise UsageError(what, path=each.folder, advice="copy it to a folder with another name")
    return save_stack(
        {name: each.folder for name, each in found.items()},
        {name: each.weight for name, each in found.items()},
        target,
        replace=replace,
    )


def leave_out(stack: Path, name: str, target: Path, *, replace: bool) -> BankStack:
    """Write the stack without one bank as `target`: the same files as if it had never been added.

    Raises LedgerError if there is no bank of that name, and the errors of `save_stack`.
    """
    rest = load_stack(stack).without(name)
    return save_stack(
        {other: stack / other for other in rest.weights}, rest.weights, target, replace=replace
    )


def _weights_by_path(inputs: Sequence[tuple[Path, Fraction]]) -> dict[Path, Fraction]:
    """The weight of each path, in order; weights of a path given more than once are added."""
    first: dict[str, Path] = {}
    weights: dict[Path, Fraction] = {}
    for path, weight in inputs:
        known = first.setdefault(os.path.abspath(path), path)
        weights[known] = weights.get(known, Fraction(0)) + weight
    return weights


def _named(banks: Mapping[Path, Fraction], taken: Sequence[str]) -> list[_BankToStack]:
    """Banks with unique names, none of them in `taken`."""
    folders = [Path(os.path.abspath(each)) for each in banks]
    shown = [each.parent if each.name == BANK else each for each in folders]
    names = unique_names([str(each) for each in shown], taken)
    return [
        _BankToStack(name.replace("/", "-"), weight, folder)
        for name, (folder, weight) in zip(names, banks.items(), strict=True)
    ]


def _require_new(folder: Path, stacks: Mapping[Path, BankStack]) -> None:
    """Raise LedgerError if one of the stacks already has the bank in a folder."""
    bank = load_bank(folder)
    for path, stack in stacks.items():
        for member in stack.members:
            if _is_same(bank, member.bank):
                what = f"is already in {path} as {member.name}"
                raise LedgerError(what, path=folder, advice=f"--without {member.name} removes it")


def _is_same(one: PromptBank, other: PromptBank) -> bool:
    return one.config == other.config and bank_digest(one) == bank_digest(other)
