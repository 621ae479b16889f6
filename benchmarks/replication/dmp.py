"""Diffusion Model Patching at a small scale: banks on converged bases, against their controls.

    python benchmarks/replication/dmp.py [--setting small] [--seeds N] --folder FOLDER [-o RESULT]

It needs scikit-learn, for its digits. What is in the folder already is not made again.

Rule 1: whatever is trained or sampled is so by soupctl's own verbs.
Rule 2: the rate of an arm is chosen on validation images, for the first seed, and is then used for
all; everything reported is of the test images. All runs are listed, chosen or not.
Rule 3: the result is written after each case of a seed, and says how many seeds are complete.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import described_run

from replication.banks import ARMS, MAIN, Patching, bank_losses
from replication.domains import Domains, Judge, digits
from replication.settings import SETTINGS, Setting
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

    def __init__(self, folder: Path, setting: Setting) -> None:
        # a third block, for the depth of prompts; without guidance, as the paper samples faces
        self.setting = replace(setting, layers=min(3, setting.layers + 1), guidance=1.0)
        self.work = Work(folder)
        self.domains = Domains(self.work, self.setting)
        self.rates: dict[str, dict[str, float]] = {}
        self.tried: dict[str, list[dict[str, Any]]] = {}

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

    def rates_of(self, name: str) -> dict[str, float]:
        """The rate of each arm of a case, chosen for the first seed."""
        if name not in self.rates:
            judge, patching = self.judge(CASES[name], "validation"), self.patching(name, 0)
            self.rates[name], self.tried[name] = {}, []
            for arm in CASES[name].arms:
                found = {}
                for rate in ARMS[arm].rates(self.setting):
                    after = bank_losses(self.work, judge, *patching.trained(arm, rate))
                    found[rate] = after["loss"]
                    self.tried[name].append({"arm": arm, "rate": rate, "validation": after["loss"]})
                self.rates[name][arm] = min(found, key=found.__getitem__)
                self.work.say(f"{name}: rate of {arm}")
        return self.rates[name]

    def case(self, name: str, seed: int) -> dict[str, Any]:
        """What is found in a case of a seed."""
        case, patching = CASES[name], self.patching(name, seed)
        judge = self.judge(case, "test")
        base = patching.base
        found = {"base": judge.losses(base) | judge.sampled(base)}
        for arm, rate in self.rates_of(name).items():
            model, bank = patching.trained(arm, rate)
            found[arm] = bank_losses(self.work, judge, model, bank) | judge.sampled(model, bank)
        return found

    def result(self, seeds: Sequence[dict[str, Any]], complete: int) -> dict[str, Any]:
        """The result so far, as its file has it; so many of the seeds are complete."""
        return {
            "study": "dmp",
            **described_run(self.work.root),
            "setting": asdict(self.setting),
            "complete_seeds": complete,
            "cases": {name: asdict(each) for name, each in CASES.items()},
            "classifier_accuracy": {
                name: each.held_out_accuracy for name, each in self.domains.made.items()
            },
            "floor": {name: self.domains.judge(name, "test").floor() for name in self.domains.made},
            "rates": self.rates,
            "rates_tried": self.tried,
            "seeds": list(seeds),
            "runs": list(self.work.trained.values()),
        }


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--seeds", type=int, help="at least 1; that of the setting by default")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, required=True, help="where to work; kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the study, or go on with it."""
    chosen = asked(arguments)
    torch.set_num_threads(chosen.threads)
    study = BankStudy(chosen.folder, SETTINGS[chosen.setting])
    seeds: list[dict[str, Any]] = []
    for seed in range(chosen.seeds or study.setting.seeds):
        seeds.append({})
        for name in chosen.cases:
            seeds[-1][name] = study.case(name, seed)
            study.work.say(f"seed {seed}: {name}")
            complete = seed + (name == chosen.cases[-1])
            if chosen.output is not None:
                text = json.dumps(study.result(seeds, complete), indent=1)
                chosen.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
