"""Diffusion Model Patching at a small scale: banks on converged bases, against their controls.

    python benchmarks/replication/dmp.py [--setting small] [--seeds N] --folder FOLDER [-o RESULT]

It needs scikit-learn, for its digits. What is in the folder already is not made again.

Rule 1: whatever is trained or sampled is so by soupctl's own commands.
Rule 2: the rate of an arm is chosen on validation images, for the first seed, and is then used for
all; everything reported is of the test images. All runs are listed, chosen or not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from replication import runner
from replication.banks import ARMS, MAIN, Patching, bank_losses
from replication.domains import Domains, Judge, digits
from replication.runner import RateTrial
from replication.settings import Setting
from replication.shapes import Pictures, shapes
from replication.work import Work


@dataclass(frozen=True, slots=True)
class BaseKind:
    """A kind of base, and how much it was trained on."""

    domain: str
    images: int | None
    """None for the setting's, or for all digits of the training part."""
    arms: tuple[str, ...]
    say: str


CASES = {
    "shapes": BaseKind("shapes", None, tuple(ARMS), "captioned shapes in eight styles"),
    "digits": BaseKind("digits", None, MAIN, "handwritten digits, 800 images"),
    "few shapes": BaseKind("shapes", 192, MAIN, "the same shapes, 192 images: the base overfits"),
}


class BankStudy:
    """The study in a folder."""

    kind = "dmp"

    def __init__(self, folder: Path, setting: Setting) -> None:
        # a third block, for the depth of prompts; without guidance, as the paper samples faces
        self.setting = replace(setting, layers=min(3, setting.layers + 1), guidance=1.0)
        self.work = Work(folder)
        self.domains = Domains(self.work, self.setting)
        self.rates: dict[str, dict[str, float]] = {}

    def domains_of(self, parts: Sequence[str]) -> list[str]:
        """The domains that these cases need."""
        return list(dict.fromkeys(CASES[name].domain for name in parts))

    def judge(self, case: BaseKind, part: str) -> Judge:
        """The judge of a case on a part of its images."""
        return self.domains.judge(case.domain, part)

    def patching(self, name: str, seed: int) -> Patching:
        """The converged base of a case and a seed, to go on from."""
        case, setting = CASES[name], self.setting
        count = min(case.images or setting.broad_images, setting.broad_images)

        def pictures() -> Pictures:
            if case.domain == "digits":
                return digits()["train"]
            return shapes(count, np.random.default_rng(seed + 60_000))

        data = self.work.data(pictures, clean=case.domain, images=count, seed=seed)
        base = self.work.finetune(
            self.domains[case.domain].new(self.work, setting, seed),
            data,
            steps=setting.long_steps,
            lr=setting.base_rate,
            lr_schedule="cosine",
            batch_size=setting.batch,
            seed=seed,
        )
        return Patching(self.work, setting, base, data, seed)

    def trials(self, parts: Sequence[str]) -> list[RateTrial]:
        """The rates that are tried for these cases."""
        return [
            RateTrial(name, arm, rate)
            for name in parts
            for arm in CASES[name].arms
            for rate in ARMS[arm].rates(self.setting)
        ]

    def validation_loss(self, trial: RateTrial) -> float:
        """The loss of the first seed's model of an arm, trained with a rate."""
        judge, patching = (
            self.judge(CASES[trial.source], "validation"),
            self.patching(trial.source, 0),
        )
        return bank_losses(self.work, judge, *patching.trained(trial.arm, trial.rate))["loss"]

    def figures(self, part: str, seed: int) -> dict[str, Any]:
        """What is found in a case of a seed."""
        case, patching = CASES[part], self.patching(part, seed)
        judge = self.judge(case, "test")
        base = patching.base
        found = {"base": judge.losses(base) | judge.sampled(base)}
        for arm in case.arms:
            rate = self.rates[part][arm]
            model, bank = patching.trained(arm, rate)
            found[arm] = bank_losses(self.work, judge, model, bank) | judge.sampled(model, bank)
        return found

    def described(self) -> dict[str, Any]:
        """What the tables of the result need besides the figures."""
        return {"cases": {name: asdict(each) for name, each in CASES.items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the study, or go on with it."""
    return runner.run(BankStudy, tuple(CASES), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
