"""A prompt bank that is to be trained, planned without loading a model."""

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
from ..diffusion.loading import empty_model
from ..diffusion.objective import Objective
from ..errors import MismatchError
from ..ledger.names import printable
from .bank_options import PatchOptions


@dataclass(frozen=True, slots=True)
class BankPlan:
    """What bank is going to be trained."""

    config: BankConfig
    gate: PromptBank | None
    """The bank whose gate is taken."""
    base_parameters: int
    """Numbers of the base in its original layout."""

    @property
    def trained(self) -> int:
        """How many numbers change."""
        return sum(
            prod(shape)
            for name, shape in self.config.tensors.items()
            if self.gate is None or name.startswith("prompts.")
        )

    @property
    def identity(self) -> dict[str, str]:
        """What tells a run of it from another, beside the options."""
        return {} if self.gate is None else {"gate from": bank_digest(self.gate)}

    @property
    def notices(self) -> Iterator[str]:
        """What a person should know of before it begins."""
        share = self.config.parameters / self.base_parameters
        yield f"the bank has {self.config.parameters:,} parameters, {share:.2%} of the base's"

    def on(self, digest: str) -> BankPlan:
        """The plan, once the content digest of the base's weights is known."""
        base = replace(self.config.base, digest=digest)
        return replace(self, config=replace(self.config, base=base))

    def bank(self) -> PromptBank:
        """The bank as it begins: zero, but for a gate that is taken."""
        bank = PromptBank(self.config)
        if self.gate is not None:
            bank.take_gate(self.gate)
        return bank


def plan_bank(options: PatchOptions, base: Base, side: int, objective: Objective) -> BankPlan:
    """The bank for a base that denoises [channels, side, side].

    Raises MismatchError for blocks that the base has not, or a gate that does not fit, UsageError
    for what this base's banks cannot be.
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
        raise MismatchError(what, path=base.folder, advice="they are counted from 0")
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
    # a gate that does not fit is refused here, before anything is read
    plan.bank()
    return plan
