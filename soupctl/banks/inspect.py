"""What a prompt bank is, from its config and from headers, without loading a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..checkpoints.layout import find_model
from ..checkpoints.safetensors import read_header
from ..diffusion.base import read_base
from ..storage.files import read_file
from .config import BankConfig
from .config_json import parse_config
from .stack_json import StackEntry, parse_stack

CONFIG = "adapter_config.json"
STACK = "stack_config.json"
BANK = "bank"
"""Where a run that trains a bank puts it."""
LARGEST_CONFIG = 1 << 22

# in diffusers every block of a DiT owns a copy of the embedders, of which the original has one
COPY = re.compile(r"transformer_blocks\.[1-9][0-9]*\.norm1\.emb\.")


@dataclass(frozen=True, slots=True)
class BankLook:
    """A bank, and how large it is beside a base."""

    folder: Path
    name: str
    """In its stack; empty for a bank alone."""
    weight: Fraction
    config: BankConfig
    base_parameters: int | None
    """Numbers of the base in its original layout; None if none was named."""

    @property
    def share(self) -> float | None:
        """What share of the base's parameters the bank's are, noise tables left out."""
        if self.base_parameters is None:
            return None
        return self.config.parameters / self.base_parameters


def look_at_banks(path: Path, base: Path | None) -> tuple[BankLook, ...]:
    """The bank, or those of the stack, that a person names, beside a base if one is named.

    None for what is neither by what it says. Raises InputError for what is not sound.
    """
    if is_stack_folder(path):
        members = [(path / each.name, each.name, each.weight) for each in read_entries(path)]
    elif is_bank_folder(folder := bank_folder(path)):
        members = [(folder, "", Fraction(1))]
    else:
        return ()
    count = None if base is None else _parameters(base)
    return tuple(
        BankLook(folder, name, weight, read_config(folder), count)
        for folder, name, weight in members
    )


def bank_folder(path: Path) -> Path:
    """The folder of the bank itself, if that of its run was named."""
    inner = path / BANK
    return inner if not _is_file(path / CONFIG) and _is_file(inner / CONFIG) else path


def read_entries(folder: Path) -> tuple[StackEntry, ...]:
    """What the stack in a folder holds, by what it says; InputError if that is not sound."""
    path = folder / STACK
    return parse_stack(read_file(path, limit=LARGEST_CONFIG), str(path))


def read_config(folder: Path) -> BankConfig:
    """What the bank in a folder is, without its numbers; InputError if that is not sound."""
    path = folder / CONFIG
    return parse_config(read_file(path, limit=LARGEST_CONFIG), str(path))


def _parameters(folder: Path) -> int:
    (component,) = find_model(read_base(folder).denoiser_folder).components
    return sum(
        tensor.count
        for file in component.files
        for tensor in read_header(file).tensors
        if not COPY.match(tensor.name)
    )


def is_bank_folder(folder: Path) -> bool:
    """Whether a folder has the config of an adapter that is a bank by what it says."""
    path = folder / CONFIG
    return _is_file(path) and b'"SOUPCTL_DMP"' in read_file(path, limit=LARGEST_CONFIG)


def is_stack_folder(folder: Path) -> bool:
    """Whether a folder has the config of a stack, by its name."""
    return _is_file(folder / STACK)


def _is_file(path: Path) -> bool:
    """Whether a file is there; of what cannot be looked at, whoever opens it tells."""
    try:
        return path.is_file()
    except OSError:
        return False
