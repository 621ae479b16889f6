"""Banks for the smallest bases, as if they had been trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from soupctl import verbs
from soupctl.banks.bank import PromptBank
from soupctl.banks.blocks import describe_base
from soupctl.banks.config import BankConfig
from soupctl.banks.files import save_bank
from soupctl.diffusion.base_reader import read_base
from soupctl.diffusion.loading import empty_model


def write_bank(
    folder: Path,
    target: str,
    size: float = 0,
    seed: int = 1,
    gate: Mapping[str, object] | None = None,
    **changes: object,
):
    """A bank for the base in a folder, whose prompts and gates are drawn `size` large."""
    Path(target).parent.mkdir(exist_ok=True)
    base = read_base(folder)
    digest = verbs.content_digests(base.denoiser_folder)[0].digest
    facts = {"num_train_timesteps": 1000, "prediction_type": "epsilon", "digest": digest}
    found = describe_base(empty_model(base), **facts)
    grid = None if base.class_name == "DiTTransformer2DModel" else 4
    bank = PromptBank(BankConfig(replace(found, **changes), gate_grid=grid, **(gate or {})))
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(bank.named_parameters()):
        parameter.data.copy_(size * torch.randn(parameter.shape, generator=generator))
    save_bank(bank, Path(target))
    return bank
