"""Diffusion Soup at a small scale: soups of fine-tunes of data shards, against what they replace.

    python benchmarks/replication/soup.py [--setting small] [--seeds N] --folder FOLDER [-o RESULT]

It needs scikit-learn, for its digits. What is in the folder already is not made again.

Rule 1: whatever is trained, averaged, changed or sampled is so by soupctl's own commands.
Rule 2: learning rates are chosen on validation images, for the first seed, and are then used for
all; everything reported is of the test images. All runs are listed, chosen or not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from replication import claims, mixtures, runner
from replication.domains import Domains, Judge
from replication.regimes import REGIMES, Bench, Rates, arms_of, candidate
from replication.runner import RateTrial
from replication.settings import Setting
from replication.work import Work

GEOMETRIC = "geometric mean"
PARTS = (
    "style-4",
    "leave one out",
    "style-8",
    "one by one",
    "style mixing",
    "memorisation",
    "noisy-4",
    "linearity",
    "no common start",
    "timesteps apart",
    "snapshots",
    GEOMETRIC,
    "style-2",
    "colour-4",
    "digits-5",
)
"""The parts of the study for each seed, in order: regimes, and claims about some of them."""
SAMPLED = ("base", "uniform soup", "paragon", "greedy soup", "specialist", "soup by")
"""The first words of the names of arms whose samples are judged as well as their losses."""
ALWAYS = 3
"""How many of these are judged in every regime; the first regime judges all."""


class SoupStudy:
    """The study in a folder."""

    kind = "soup"
    part_by_part = False

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.work, self.setting = Work(folder), setting
        self.domains = Domains(self.work, setting)
        self.rates: dict[str, dict[str, float]] = {}

    def domains_of(self, parts: Sequence[str]) -> list[str]:
        """The domains that these parts need."""
        return ["shapes", *(["digits"] if "digits-5" in parts else [])]

    def trials(self, parts: Sequence[str]) -> list[RateTrial]:
        """The rates that are tried for these parts."""
        regimes = [*REGIMES] if set(parts) - {*REGIMES, GEOMETRIC} else parts
        sources = {REGIMES[name].rates_of or name: None for name in regimes if name in REGIMES}
        return [
            RateTrial(source, arm, rate)
            for source in sources
            if source in parts or source == "style-4"
            for arm in ("sum", "shard", "once")
            for rate in self.setting.rates
        ]

    def validation_loss(self, trial: RateTrial) -> float:
        """The loss of the first seed's model of an arm, trained with a rate."""
        judge = self.judge(REGIMES[trial.source].domain, "validation")
        return judge.losses(candidate(self.bench(trial.source, 0), trial.arm, trial.rate))["loss"]

    def judge(self, domain: str, part: str = "test") -> Judge:
        """Who judges models of a domain on a part of its images."""
        return self.domains.judge(domain, part)

    def bench(self, name: str, seed: int) -> Bench:
        """A regime of a seed."""
        regime = REGIMES[name]
        return Bench(self.work, self.setting, self.domains[regime.domain], regime, seed)

    def rates_of(self, name: str) -> Rates:
        """The rates of a regime, chosen for the first seed."""
        return Rates(**self.rates[REGIMES[name].rates_of or name])

    def figures(self, part: str, seed: int) -> Any:
        """What is found in a part of the study for a seed."""
        if part in REGIMES:
            return self.regime(part, seed)
        if part == GEOMETRIC:
            return mixtures.compared(self.work, self.setting, seed)
        return claims.CLAIMS[part](self, seed)

    def regime(self, name: str, seed: int) -> dict[str, Any]:
        """The losses and samples of each arm in one regime, for one seed."""
        bench, rates = self.bench(name, seed), self.rates_of(name)
        judge = self.judge(bench.regime.domain)
        validation = self.judge(bench.regime.domain, "validation")
        found: dict[str, Any] = {}
        for arm, paths in arms_of(bench, rates, validation).items():
            found[arm] = judge.losses(*paths)
            if arm.startswith(SAMPLED if name == PARTS[0] else SAMPLED[:ALWAYS]):
                found[arm] |= judge.sampled(paths[0])
        return found

    def described(self) -> dict[str, Any]:
        """What the tables of the result need besides the figures."""
        return {"regimes": {name: asdict(each) for name, each in REGIMES.items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or resume the study."""
    return runner.run(SoupStudy, PARTS, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
