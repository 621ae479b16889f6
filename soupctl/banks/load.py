"""Banks by path: the folder of a bank, of the run that trained it, or of a stack."""

from __future__ import annotations

from pathlib import Path

from .bank import PromptBank
from .files import load_bank
from .inspect import BANK, bank_folder, is_stack_folder
from .stack import BankStack, Member
from .stack_files import load_stack

__all__ = ["BANK", "bank_folder", "load_bank_or_stack", "members_of"]


def load_bank_or_stack(path: Path) -> PromptBank | BankStack:
    """The bank or stack in a folder; SoupError if it is neither, or not valid."""
    return load_stack(path) if is_stack_folder(path) else load_bank(bank_folder(path))


def members_of(bank: PromptBank | BankStack) -> tuple[Member, ...]:
    """The banks of a stack with their weights; a single bank is one member without a name."""
    return bank.members if isinstance(bank, BankStack) else (Member("", 1.0, bank),)
