"""Facts of prompt banks from configs and headers, without loading a tensor.

Rule 1: what reads a bank is imported when there is one, since `inspect` looks at all checkpoints.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..frozen import frozen
from ..storage.files import read_file

if TYPE_CHECKING:
    from .config import BankConfig
    from .stack_json import StackEntry

CONFIG = "adapter_config.json"
STACK = "stack_config.json"
BANK = "bank"
"""The folder of the bank in the folder of the run that trained it."""
LARGEST_CONFIG = 1 << 22

# in diffusers, each block of a DiT has a copy of the embedders; the original has only one
COPY = re.compile(r"transformer_blocks\.[1-9][0-9]*\.norm1\.emb\.")


@frozen
class BankInfo:
    """A bank on disk, and the size of a base to compare it with."""

    folder: Path
    name: str
    """The name in its stack; empty for a single bank."""
    weight: Fraction
    config: BankConfig
    base_parameters: int | None
    """Parameters of the base in its original layout; None if no base was given."""

    @property
    def share(self) -> float | None:
        """The bank's parameters, without noise tables, as a share of the base's."""
        if self.base_parameters is None:
            return None
        return self.config.parameters / self.base_parameters


def inspect_banks(path: Path, base: Path | None) -> tuple[BankInfo, ...]:
    """The bank at `path`, or the banks of the stack there; empty if it is neither.

    Raises InputError for a config that is not valid.
    """
    if is_stack_folder(path):
        members = [(path / each.name, each.name, each.weight) for each in read_entries(path)]
    elif is_bank_folder(folder := bank_folder(path)):
        members = [(folder, "", Fraction(1))]
    else:
        return ()
    count = None if base is None else _parameters(base)
    return tuple(
        BankInfo(folder, name, weight, read_config(folder), count)
        for folder, name, weight in members
    )


def bank_folder(path: Path) -> Path:
    """The folder of the bank, if `path` is the folder of the run that trained it; else `path`."""
    inner = path / BANK
    return inner if not _is_file(path / CONFIG) and _is_file(inner / CONFIG) else path


def read_entries(folder: Path) -> tuple[StackEntry, ...]:
    """The members of the stack in a folder, from its config; InputError if that is not valid."""
    from .stack_json import parse_stack  # noqa: PLC0415

    path = folder / STACK
    return parse_stack(read_file(path, limit=LARGEST_CONFIG), str(path))


def read_config(folder: Path) -> BankConfig:
    """The config of the bank in a folder; InputError if it is not valid."""
    from .config_json import parse_config  # noqa: PLC0415

    path = folder / CONFIG
    return parse_config(read_file(path, limit=LARGEST_CONFIG), str(path))


def _parameters(folder: Path) -> int:
    from ..checkpoints.safetensors import read_header  # noqa: PLC0415
    from ..diffusion.base_reader import read_base  # noqa: PLC0415

    base = read_base(folder)
    return sum(
        tensor.count
        for file in base.files.weights[base.denoiser].files
        for tensor in read_header(file).tensors
        if not COPY.match(tensor.name)
    )


def is_bank_folder(folder: Path) -> bool:
    """Whether a folder has an adapter's config that claims to be a prompt bank's."""
    path = folder / CONFIG
    return _is_file(path) and b'"SOUPCTL_DMP"' in read_file(path, limit=LARGEST_CONFIG)


def is_stack_folder(folder: Path) -> bool:
    """Whether a folder has a file with the name of a stack's config."""
    return _is_file(folder / STACK)


def _is_file(path: Path) -> bool:
    """Whether there is a file; False if that cannot be told, and opening it reports why."""
    try:
        return path.is_file()
    except OSError:
        return False
