"""What a prompt bank is, from its config and from headers, without loading a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..models.bases import read_base
from ..soup.bankconfig import BankConfig
from ..soup.banktext import parse_config
from ..storage.layout import find_model
from ..storage.regular import read_small
from ..storage.safetensors import read_header

CONFIG = "adapter_config.json"
LARGEST_CONFIG = 1 << 22

# in diffusers every block of a DiT owns a copy of the embedders, of which the original has one
COPY = re.compile(r"transformer_blocks\.[1-9][0-9]*\.norm1\.emb\.")


@dataclass(frozen=True, slots=True)
class BankLook:
    """A bank, and how large it is beside a base."""

    config: BankConfig
    base_parameters: int | None
    """Numbers of the base in its original layout; None if none was named."""

    @property
    def share(self) -> float | None:
        """What share of the base's parameters the bank's are, noise tables left out."""
        if self.base_parameters is None:
            return None
        return self.config.parameters / self.base_parameters


def look_at_bank(folder: Path, base: Path | None) -> BankLook:
    """The bank in a folder, beside a base if one is named; InputError for what is not sound."""
    path = folder / CONFIG
    config = parse_config(read_small(path, str(path), LARGEST_CONFIG), str(path))
    return BankLook(config, None if base is None else _parameters(base))


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
    return path.is_file() and b'"SOUPCTL_DMP"' in read_small(path, str(path), LARGEST_CONFIG)
