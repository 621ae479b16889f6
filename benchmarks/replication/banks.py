"""The arms of the study of prompt banks: how each is trained from a converged base.

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

import numpy as np

from replication import paired
from replication.judging import Probe, predictor
from replication.paired import Errors
from replication.settings import BankSetting
from replication.work import Work, load
from soupctl.banks.attachment import attach
from soupctl.banks.bank import PromptBank
from soupctl.banks.blocks import describe_base
from soupctl.banks.config import BankConfig, GateInput, GateKind
from soupctl.banks.files import load_bank, save_bank

POSITIONS = 16
"""Tokens of an image of 8x8 pixels, in patches of 2x2."""
DECAYED = {"lr_schedule": "cosine", "ema": True}
CONSTANT = {"lr_schedule": "constant", "ema": False}
SLOW = 0.1
"""Learning rate of a gate, in multiples of that of prompts, unless an arm says otherwise."""
PUBLISHED = 1e-4


@dataclass(frozen=True, slots=True)
class BankArm:
    """One way to go on."""

    options: Mapping[str, Any] = field(default_factory=dict)
    uniform: bool = False
    """Whether the gate is frozen, and gives all positions the same weight."""
    factor: float = 1.0
    """What the rates that are tried are multiplied by."""
    fixed: float | None = None
    """The only rate, where that is part of what is tried."""
    rate_of: str | None = None
    """The arm whose chosen rate it has, from which it differs in a detail."""
    times: int = 1
    """Its steps, in multiples of those of the other arms."""
    whole: bool = False
    """Whether the model itself is trained, and no bank."""

    def rates(self, setting: BankSetting) -> tuple[float, ...]:
        """The rates that are tried; none if it has that of another arm."""
        if self.rate_of is not None:
            return ()
        if self.fixed is not None:
            return (self.fixed,)
        return tuple(self.factor * rate for rate in setting.rates)


FULL, PROMPTS, FIXED_GATE, DMP = "full fine-tuning", "prompts, no gate", "time-free gate", "DMP"
MIXTURE = "mixture of 8"


def _gated(**options: Any) -> BankArm:
    return BankArm({"gate_lr_scale": SLOW, **options})


def _as_dmp(*, times: int = 1, **options: Any) -> BankArm:
    return BankArm({"gate_lr_scale": SLOW, **options}, rate_of=DMP, times=times)


def _mixture(prompts: int, rate_of: str | None = None) -> BankArm:
    """Each of the prompts moves all positions, so rates are lower."""
    options = {"gate_lr_scale": SLOW, "gate": GateKind.MIXTURE, "prompts": prompts}
    return BankArm(options, factor=0.1, rate_of=rate_of)


ARMS = {
    FULL: BankArm(whole=True, factor=0.1),
    PROMPTS: BankArm(uniform=True),
    "prompts, weight 1": BankArm(uniform=True, factor=POSITIONS * 0.1),
    FIXED_GATE: _gated(gate_input=GateInput.NONE),
    DMP: _gated(),
    "DMP, balanced": _gated(balance=1.0, gate_noise=True),
    "DMP, top half": _as_dmp(gate_topk=0.5),
    "DMP, first block": _as_dmp(blocks="0"),
    "DMP, first two blocks": _as_dmp(blocks="0-1"),
    "DMP, time and class": _as_dmp(gate_input=GateInput.TIME_AND_CLASS),
    "DMP, fast gate": _as_dmp(gate_lr_scale=10.0),
    "DMP, 8 before the sequence": _gated(prepend=8),
    "mixture of 2": _mixture(2, MIXTURE),
    MIXTURE: _mixture(8),
    "mixture of 32": _mixture(32, MIXTURE),
    "prompts, min-SNR": BankArm({"snr_gamma": 5.0}, uniform=True, rate_of=PROMPTS),
    "DMP, min-SNR": _as_dmp(snr_gamma=5.0),
    "full fine-tuning, 3x steps": BankArm(whole=True, rate_of=FULL, times=3),
    "prompts, 3x steps": BankArm(uniform=True, rate_of=PROMPTS, times=3),
    "DMP, 3x steps": _as_dmp(times=3),
    "DMP, constant rate, no EMA": _as_dmp(**CONSTANT),
    "prompts, weight 1, as published": BankArm(CONSTANT, uniform=True, fixed=POSITIONS * PUBLISHED),
    "prompts, no gate, rate as published": BankArm(CONSTANT, uniform=True, fixed=PUBLISHED),
    "DMP, as published": BankArm(
        {
            "gate_lr_scale": 10.0,
            "balance": 1.0,
            "gate_noise": True,
            "gate_input": GateInput.TIME_AND_CLASS,
            **CONSTANT,
        },
        fixed=PUBLISHED,
    ),
}
MAIN = (FULL, PROMPTS, FIXED_GATE, DMP, "DMP, balanced")
"""The arms of all cases, of which samples are judged."""


class Patching:
    """A base of one seed, and what is trained from it."""

    def __init__(self, work: Work, setting: BankSetting, base: Path, data: Path, seed: int) -> None:
        self.work, self.setting = work, setting
        self.base, self.data, self.seed = base, data, seed

    def trained(self, name: str, rate: float) -> tuple[Path, Path | None]:
        """The model and the bank that an arm ends with."""
        arm = ARMS[name]
        options = {
            **DECAYED,
            "steps": arm.times * self.setting.steps,
            "batch_size": self.setting.batch,
            "lr": rate,
            "seed": 200 + self.seed,
            **arm.options,
        }
        if arm.whole:
            return self.work.finetune(self.base, self.data, **options), None
        if arm.uniform:
            options["gate_from"] = self.uniform_gate()
        return self.base, self.work.patch_dmp(self.base, self.data, **options)

    def uniform_gate(self) -> Path:
        """A bank of zeros: its gate gives all positions the same weight."""

        def make(folder: Path) -> None:
            bank = PromptBank(BankConfig(describe_base(load(self.base))))
            save_bank(bank, folder / "bank", replace=True)

        return self.work.made("zeros", {"base": self.base}, make) / "bank"


def errors_of(
    work: Work, key: Mapping[str, Any], asked: Probe, model: Path, bank: Path | None
) -> Errors:
    """The held-out errors of a model with a bank; `key` stands for the images that are asked."""

    def make(folder: Path) -> None:
        loaded = load(model)
        if bank is None:
            found = paired.errors(predictor(loaded), asked)
        else:
            with attach(loaded, load_bank(bank)):
                found = paired.errors(predictor(loaded), asked)
        np.save(folder / "errors.npy", found)

    named = {**key, "model": model, "bank": bank}
    return np.load(work.made("errors", named, make) / "errors.npy")
