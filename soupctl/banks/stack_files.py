"""Stacks of banks on disk: a folder with `stack_config.json` and a folder for each bank.

Rule 1: members are copied byte for byte, metadata included; a stack without one of its banks has
the same files as a stack that never had it.
Rule 2: the config records the content digest of each member, which is checked when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from ..errors import InputError, LedgerError, OutputError, SoupError, UsageError
from ..ledger.weights import is_written
from ..storage.atomic import publish_folder
from ..storage.files import copy_file, write_file
from .bank import PromptBank
from .files import WEIGHTS, bank_digest, load_bank
from .inspect import CONFIG, STACK, read_entries
from .stack import BankStack
from .stack_json import StackEntry, encode_stack, is_member_name


def save_stack(
    members: Mapping[str, Path],
    weights: Mapping[str, Fraction],
    target: Path,
    *,
    replace: bool = False,
) -> BankStack:
    """Write the stack `target` from folders of banks by name, and return it.

    With `replace`, an existing folder is replaced if it holds a stack. Raises UsageError for a name
    that no folder can have, InputError for a bank that is not valid, MismatchError for banks of
    different bases, OutputError; then nothing is written.
    """
    if wrong := [name for name in sorted(members) if not is_member_name(name)]:
        raise UsageError("cannot be the name of a bank in a stack", path=wrong[0])
    banks = {name: load_bank(folder) for name, folder in sorted(members.items())}
    stack = BankStack(banks, weights)
    if long := [name for name, weight in stack.weights.items() if not is_written(weight)]:
        raise UsageError("has a weight with too many digits", path=long[0])
    entries = [
        StackEntry(name, stack.weights[name], bank_digest(bank)) for name, bank in banks.items()
    ]
    with publish_folder(target, replace=replace, may_replace=is_stack) as staging:
        write_file(staging, STACK, encode_stack(entries))
        for name, folder in sorted(members.items()):
            for file in (CONFIG, WEIGHTS):
                copy_file(staging, f"{name}/{file}", folder / file)
            _require_same(staging.path / name, banks[name], folder)
    return stack


def load_stack(folder: Path) -> BankStack:
    """Load the stack in a folder.

    Raises InputError for files that are not valid, LedgerError for a bank that was changed after it
    was stacked, MismatchError for banks of different bases.
    """
    banks, weights = {}, {}
    for entry in read_entries(folder):
        bank = load_bank(folder / entry.name)
        if bank_digest(bank) != entry.digest:
            raise LedgerError("was changed after it was stacked", path=folder / entry.name)
        banks[entry.name] = bank
        weights[entry.name] = entry.weight
    return BankStack(banks, weights)


def is_stack(folder: Path) -> bool:
    """Whether a folder holds a stack of banks and no other files."""
    try:
        entries = read_entries(folder)
    except SoupError:
        return False
    own = {STACK, *(f"{entry.name}/{file}" for entry in entries for file in (CONFIG, WEIGHTS))}
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    return found <= own


def _require_same(copy: Path, bank: PromptBank, original: Path) -> None:
    """Raise OutputError unless the copy is the bank that was checked."""
    try:
        found = load_bank(copy)
    except InputError:
        found = None
    if found is None or found.config != bank.config or bank_digest(found) != bank_digest(bank):
        raise OutputError("changed while it was read", path=original)
