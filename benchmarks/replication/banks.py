"""The arms of the study of prompt banks: how each goes on from a converged base.

Rule 1: all arms make equally many steps, with cosine decay and an EMA, unless their name says so.
Rule 2: a gate that is uniform gives each of 16 positions the weight 1/16, and AdamW's steps do not
depend on the size of gradients; so prompts of weight 1 are those of weight 1/16 at 16 times the
rate, and both are trained as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replication import judging
from replication.domains import Judge
from replication.settings import Setting
from replication.work import Work, load
from soupctl.banks.attachment import attach
from soupctl.banks.bank import PromptBank
from soupctl.banks.blocks import describe_base
from soupctl.banks.config import BankConfig, GateInput, GateKind
from soupctl.banks.files import load_bank, save_bank

POSITIONS = 16
"""Tokens of an image of 8x8 pixels, in patches of 2x2."""
DECAYED = {"lr_schedule": "cosine", "ema": True}
SLOW = 0.1
"""Learning rate of a gate, in multiples of that of prompts, unless an arm says otherwise."""


@dataclass(frozen=True, slots=True)
class BankArm:
    """One way to go on."""

    options: Mapping[str, Any] = field(default_factory=dict)
    uniform: bool = False
    """Whether the gate is frozen, and gives all positions the same weight."""
    factor: float = 1.0
    """Of the rates that are tried."""
    fixed: float | None = None
    """The only rate, where that is part of what is tried."""
    times: int = 1
    """Of the steps of the others."""
    whole: bool = False
    """Whether the model itself is trained, and no bank."""

    def rates(self, setting: Setting) -> tuple[float, ...]:
        """The rates that are tried."""
        if self.fixed is not None:
            return (self.fixed,)
        return tuple(self.factor * rate for rate in setting.bank_rates)


ARMS = {
    "full fine-tuning": BankArm(whole=True, factor=0.1),
    "prompts, weight 1": BankArm(uniform=True, factor=POSITIONS * 0.1),
    "prompts, weight 1/16": BankArm(uniform=True),
    "DMP": BankArm({"gate_lr_scale": SLOW}),
    "DMP, gate ten times as fast as prompts": BankArm({"gate_lr_scale": 10.0}),
    "DMP, balanced": BankArm({"gate_lr_scale": SLOW, "balance": 1.0, "gate_noise": True}),
    "DMP, top half": BankArm({"gate_lr_scale": SLOW, "gate_topk": 0.5}),
    "DMP, first block": BankArm({"gate_lr_scale": SLOW, "blocks": "0"}),
    "DMP, first two blocks": BankArm({"gate_lr_scale": SLOW, "blocks": "0-1"}),
    "DMP, time and class": BankArm({"gate_lr_scale": SLOW, "gate_input": GateInput.TIME_AND_CLASS}),
    "mixture of 8": BankArm({"gate_lr_scale": SLOW, "gate": GateKind.MIXTURE, "prompts": 8}),
    "mixture of 32": BankArm({"gate_lr_scale": SLOW, "gate": GateKind.MIXTURE, "prompts": 32}),
    "DMP, min-SNR": BankArm({"gate_lr_scale": SLOW, "snr_gamma": 5.0}),
    "DMP, three times the steps": BankArm({"gate_lr_scale": SLOW}, times=3),
    "DMP, constant rate, no EMA": BankArm(
        {"gate_lr_scale": SLOW, "lr_schedule": "constant", "ema": False}
    ),
    "DMP, as published": BankArm(
        {
            "gate_lr_scale": 10.0,
            "balance": 1.0,
            "gate_noise": True,
            "gate_input": GateInput.TIME_AND_CLASS,
            "lr_schedule": "constant",
            "ema": False,
        },
        fixed=1e-4,
    ),
}
MAIN = (
    "full fine-tuning",
    "prompts, weight 1",
    "prompts, weight 1/16",
    "DMP",
    "DMP, balanced",
    "DMP, constant rate, no EMA",
)
"""The arms of the other cases."""


class Patching:
    """A base of one seed, and what is trained from it."""

    def __init__(self, work: Work, setting: Setting, base: Path, data: Path, seed: int) -> None:
        self.work, self.setting = work, setting
        self.base, self.data, self.seed = base, data, seed

    def trained(self, name: str, rate: float) -> tuple[Path, Path | None]:
        """The model and the bank that an arm ends with."""
        arm = ARMS[name]
        options = {
            **DECAYED,
            "steps": arm.times * self.setting.bank_steps,
            "batch_size": self.setting.batch,
            "lr": rate,
            "seed": 200 + self.seed,
            **arm.options,
        }
        if arm.whole:
            return self.work.finetune(self.base, self.data, **options), None
        if arm.uniform:
            options["gate_from"] = str(self.uniform_gate())
        return self.base, self.work.patch_dmp(self.base, self.data, **options)

    def uniform_gate(self) -> Path:
        """A bank of zeros: its gate gives all positions the same weight."""

        def make(folder: Path) -> None:
            bank = PromptBank(BankConfig(describe_base(load(self.base))))
            save_bank(bank, folder / "bank", replace=True)

        return self.work.made("zeros", {"base": self.base}, make) / "bank"


def bank_losses(work: Work, judge: Judge, model: Path, bank: Path | None) -> dict[str, Any]:
    """The held-out losses of a model with a bank."""
    if bank is None:
        return judge.losses(model)

    def compute() -> dict[str, Any]:
        loaded = load(model)
        with attach(loaded, load_bank(bank)):
            return judging.losses(judging.predictor(loaded), judge.asked, judge.groups)

    return work.figure("loss", {**judge.key, "model": model, "bank": bank}, compute)
