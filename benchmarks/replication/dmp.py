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
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from replication import paired, runner
from replication.banks import ARMS, DMP, FIXED_GATE, FULL, MAIN, PROMPTS, Patching, errors_of
from replication.domains import FIXED, Domains, Judge, digits
from replication.judging import Probe
from replication.paired import Errors
from replication.runner import RateTrial
from replication.settings import Setting
from replication.shapes import Pictures, shapes
from replication.work import Work
from soupctl.banks.embedders import Embedders
from soupctl.banks.gate_survey import survey
from soupctl.banks.load import load_bank_or_stack, members_of
from soupctl.diffusion.base_reader import read_base
from soupctl.training.metrics import VALIDATION, read_metrics

WATCHED = 192
"""Validation images whose loss is measured while a base is trained."""
MEASURED = 15
"""How often that is."""
GUIDED = 2.0
"""Guidance scale of the second samples of the first case; all others are without guidance."""
SHOWN_TIMES = 40
"""Timesteps at which the weights of gates are recorded."""


@dataclass(frozen=True, slots=True)
class BaseKind:
    """A kind of base, and what it was trained on."""

    domain: str
    arms: tuple[str, ...]
    say: str
    is_narrow: bool = False
    has_many: bool = False
    """Whether it has so many images that it could learn more from them."""
    is_guided: bool = False
    """Whether samples are judged with guidance, too."""


CASES = {
    "shapes": BaseKind("shapes", MAIN, "captioned shapes in eight styles", is_guided=True),
    "options": BaseKind("shapes", tuple(ARMS), "the bases of shapes, with other options of banks"),
    "many": BaseKind("shapes", MAIN, "many more shapes: the base could learn more", has_many=True),
    "narrow": BaseKind("shapes", MAIN, "shapes, a base of half the width", is_narrow=True),
    "digits": BaseKind("digits", MAIN, "handwritten digits"),
}
"""In the order in which they are made; what two have in common is made once."""


class BankStudy:
    """The study in a folder."""

    kind = "dmp"
    part_by_part = True

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.sizes = setting.banks
        self.setting = replace(
            setting,
            width=self.sizes.width,
            layers=self.sizes.layers,
            test=self.sizes.test,
            draws=self.sizes.draws,
            samples=self.sizes.samples,
            sample_steps=self.sizes.sample_steps,
            classifier_images=self.sizes.classifier_images,
            classifier_steps=self.sizes.classifier_steps,
            # as the paper samples faces
            guidance=1.0,
        )
        self.work = Work(folder)
        self.domains = Domains(self.work, self.setting)
        self.rates: dict[str, dict[str, float]] = {}
        self._asked: dict[tuple[str, str], Probe] = {}

    def domains_of(self, parts: Sequence[str]) -> list[str]:
        """The domains that these cases need."""
        return list(dict.fromkeys(CASES[name].domain for name in parts))

    def patching(self, name: str, seed: int) -> Patching:
        """The converged base of a case and a seed, and the data that it is trained on."""
        case, sizes = CASES[name], self.sizes
        count = sizes.many_images if case.has_many else sizes.images

        def pictures() -> Pictures:
            if case.domain == "digits":
                known = digits()["train"]
                return known.where(np.random.default_rng(seed).permutation(len(known)) < count)
            return shapes(count, np.random.default_rng(seed + 60_000))

        data = self.work.data(pictures, clean=case.domain, images=count, seed=seed)
        width = sizes.width // 2 if case.is_narrow else sizes.width
        base = self.work.finetune(
            self.domains[case.domain].new(self.work, replace(self.setting, width=width), seed),
            data,
            steps=sizes.base_steps,
            lr=sizes.base_rate,
            lr_schedule="cosine",
            batch_size=sizes.batch,
            seed=seed,
            validate=self.watched(case.domain),
            validate_every=max(1, sizes.base_steps // MEASURED),
        )
        return Patching(self.work, sizes, base, data, seed)

    def watched(self, domain: str) -> Path:
        """The validation images whose loss is measured while a base is trained."""
        found = self.domains[domain].validation

        def few() -> Pictures:
            return found.where(np.arange(len(found)) < WATCHED)

        return self.work.data(few, watched=domain, images=len(found))

    def errors(self, name: str, part: str, model: Path, bank: Path | None) -> Errors:
        """The errors on a part of a case's images."""
        domain = CASES[name].domain
        judge = self.domains.judge(domain, part)
        if (domain, part) not in self._asked:
            held_out = self.domains[domain]
            pictures = held_out.test if part == "test" else held_out.validation
            self._asked[domain, part] = paired.triples(pictures, self.sizes.draws, FIXED)
        key = {**judge.key, "draws": self.sizes.draws}
        return errors_of(self.work, key, self._asked[domain, part], model, bank)

    def trials(self, parts: Sequence[str]) -> list[RateTrial]:
        """The rates that are tried for these cases."""
        return [
            RateTrial(name, arm, rate)
            for name in parts
            for arm in CASES[name].arms
            for rate in ARMS[arm].rates(self.sizes)
        ]

    def validation_loss(self, trial: RateTrial) -> float:
        """The loss of the first seed's model of an arm, trained with a rate."""
        found = self.patching(trial.source, 0).trained(trial.arm, trial.rate)
        return float(self.errors(trial.source, "validation", *found).mean())

    def figures(self, part: str, seed: int) -> dict[str, Any]:
        """What is found in a case of a seed."""
        patching = self.patching(part, seed)
        models: dict[str, tuple[Path, Path | None]] = {"base": (patching.base, None)}
        rates = {arm: self.rates[part][ARMS[arm].rate_of or arm] for arm in CASES[part].arms}
        models |= {arm: patching.trained(arm, rate) for arm, rate in rates.items()}
        found = {name: self.errors(part, "test", *each) for name, each in models.items()}
        others = {name: found[name] for name in ("base", FULL, PROMPTS, FIXED_GATE, DMP)}
        arms = {name: paired.compared(each, others, found["base"]) for name, each in found.items()}
        for name, rate in rates.items():
            arms[name]["rate"] = rate
        if part != "options":
            for name, each in models.items():
                arms[name] |= self.sampled(part, *each)
        gates = {name: gates_of(*each) for name, each in models.items() if each[1] is not None}
        for name, gate in gates.items():
            arms[name]["gate"] = {field: gate[field] for field in ("change", "in_use", "strength")}
        curve = read_metrics(patching.base.parent, VALIDATION)
        return {"arms": arms, "curve": curve} | ({"gates": gates} if seed == 0 else {})

    def sampled(self, name: str, model: Path, bank: Path | None) -> dict[str, Any]:
        """What the classifier says of samples, without guidance and, in the first case, with it."""
        case = CASES[name]
        found = self.domains.judge(case.domain, "test").sampled(model, bank)
        if case.is_guided:
            guided = replace(self.setting, guidance=GUIDED)
            judge = Judge(self.work, guided, self.domains[case.domain])
            found["guided"] = judge.sampled(model, bank)
        return found

    def described(self) -> dict[str, Any]:
        """What the tables of the result need besides the figures."""
        return {"cases": {name: asdict(each) for name, each in CASES.items()}}


def gates_of(model: Path, bank: Path | None) -> dict[str, Any]:
    """The gate of a bank: its weights by block and timestep, and means over blocks and time."""
    assert bank is not None
    base = read_base(model)
    (member,) = members_of(load_bank_or_stack(bank))
    size = member.bank.config.base.sample_size
    classes = max(base.embeddings - 1, 0)
    found = survey(member, Embedders(base, size, lambda times: times), 1000, classes)
    chosen = np.linspace(0, len(found.timesteps) - 1, SHOWN_TIMES).round().astype(int)

    def mean(values: Sequence[torch.Tensor]) -> float:
        return float(torch.stack([each.mean() for each in values]).mean())

    return {
        "timesteps": [found.timesteps[index] for index in chosen],
        "blocks": [
            [[round(float(each), 5) for each in block.weights[index]] for index in chosen]
            for block in found.blocks
        ],
        "change": mean([block.change for block in found.blocks]),
        "in_use": mean([block.in_use / block.weights.shape[1] for block in found.blocks]),
        "strength": mean([block.strength for block in found.blocks]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or resume the study."""
    return runner.run(BankStudy, tuple(CASES), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
