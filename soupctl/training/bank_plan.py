"""The plan of a prompt bank to train, made without loading the base's weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from ..banks.bank import PromptBank
from ..banks.blocks import base_parameters, describe_base
from ..banks.compatibility import require_same_base
from ..banks.config import TRANSFORMERS, BankConfig, GateKind
from ..banks.files import bank_digest, load_bank
from ..banks.load import bank_folder
from ..diffusion.base import Base
from ..diffusion.flow import TrainingObjective
from ..diffusion.loading import empty_model
from ..errors import MismatchError
from ..ledger.names import printable
from .bank_options import PatchOptions


@dataclass(frozen=True, slots=True)
class BankPlan:
    """The prompt bank to train."""

    config: BankConfig
    gate: PromptBank | None
    """The bank whose gate is taken and kept frozen; None to train a gate."""
    base_parameters: int
    """Number of parameters of the base in its original layout."""

    @property
    def trained(self) -> int:
        """Number of parameters that are trained."""
        return sum(
            prod(shape)
            for name, shape in self.config.tensors.items()
            if self.gate is None or name.startswith("prompts.")
        )

    @property
    def identity(self) -> dict[str, str]:
        """Other facts that change the trained weights: the digest of a bank whose gate is taken."""
        return {} if self.gate is None else {"gate from": bank_digest(self.gate)}

    @property
    def notices(self) -> Iterator[str]:
        """Remarks about the bank for the user."""
        share = self.config.parameters / self.base_parameters
        yield f"the bank has {self.config.parameters:,} parameters, {share:.2%} of the base's"

    def with_base_digest(self, digest: str) -> BankPlan:
        """The plan with the content digest of the base's denoiser."""
        base = replace(self.config.base, digest=digest)
        return replace(self, config=replace(self.config, base=base))

    def initial_bank(self, seed: int) -> PromptBank:
        """The bank before training, of zero prompts.

        The gate is the one that is taken, drawn at random for prompts without a position, or zero.
        """
        bank = PromptBank(self.config)
        if self.gate is not None:
            bank.copy_gate(self.gate)
        elif self.config.gate is GateKind.MIXTURE or self.config.prepended:
            bank.draw_gate(seed)
        return bank


def plan_bank(
    options: PatchOptions, base: Base, side: int, objective: TrainingObjective
) -> BankPlan:
    """The plan of a bank for a base whose input is [channels, side, side].

    Raises MismatchError for blocks that the base does not have or a gate that does not fit,
    UsageError for options that do not work with this base.
    """
    model = empty_model(base)
    found = describe_base(
        model,
        sample_size=(side, side),
        num_train_timesteps=objective.timesteps,
        prediction_type=objective.prediction.value,
        name=printable(Path(os.path.abspath(base.folder)).name),
    )
    if options.deepest >= len(found.sites):
        what = f"has {len(found.sites)} blocks, and --blocks is {options.blocks}"
        raise MismatchError(what, path=base.given, advice="blocks are numbered from 0")
    sites = tuple(site for site in found.sites if options.chooses(site.depth))
    has_grid = base.class_name not in TRANSFORMERS and options.gate is GateKind.TOKEN
    config = BankConfig(
        replace(found, sites=sites),
        options.gate,
        options.gate_input,
        options.gate_topk,
        options.whole_prompts,
        options.gate_grid if has_grid else None,
        options.gate_noise,
        options.prepend,
    )
    gate = None
    if options.gate_from is not None:
        gate = load_bank(bank_folder(Path(options.gate_from)))
        require_same_base(config, gate.config, options.gate_from)
    plan = BankPlan(config, gate, base_parameters(model))
    # refuses a gate that does not fit, before weights and images are read
    plan.initial_bank(seed=0)
    return plan
