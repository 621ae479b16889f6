"""A bank as a person names it: its folder, that of the run which trained it, or a stack."""

from __future__ import annotations

from pathlib import Path

from .bank import PromptBank
from .files import load_bank
from .inspect import BANK, bank_folder, is_stack_folder
from .stack import BankStack, Member
from .stack_files import load_stack

__all__ = ["BANK", "bank_folder", "load_bank_or_stack", "members_of"]


def load_bank_or_stack(path: Path) -> PromptBank | BankStack:
    """What is in a folder; SoupError for what is not sound, or neither bank nor stack."""
    return load_stack(path) if is_stack_folder(path) else load_bank(bank_folder(path))


def members_of(bank: PromptBank | BankStack) -> tuple[Member, ...]:
    """The banks of a stack with their weights, or the one bank, which has no name."""
    return bank.members if isinstance(bank, BankStack) else (Member("", 1.0, bank),)
