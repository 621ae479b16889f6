"""A bank as a person names it: its folder, that of the run which trained it, or a stack."""

from __future__ import annotations

from pathlib import Path

from ..soup.bankconfig import BankConfig
from .bank import PromptBank
from .files import load_bank
from .look import CONFIG
from .stack import BankStack
from .stack_files import STACK, load_stack

BANK = "bank"
"""Where a run that trains a bank puts it."""


def bank_folder(path: Path) -> Path:
    """The folder of the bank itself, if that of its run was named."""
    inner = path / BANK
    return inner if not (path / CONFIG).exists() and (inner / CONFIG).exists() else path


def load_bank_or_stack(path: Path) -> PromptBank | BankStack:
    """What is in a folder; SoupError for what is not sound, or neither bank nor stack."""
    return load_stack(path) if (path / STACK).is_file() else load_bank(bank_folder(path))


def members_of(bank: PromptBank | BankStack) -> tuple[tuple[str, BankConfig], ...]:
    """What each bank of a stack, or the one bank, is, by the name to complain of it with."""
    if isinstance(bank, BankStack):
        return tuple((member.name, member.bank.config) for member in bank.members)
    return (("the bank", bank.config),)
