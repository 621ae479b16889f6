"""Diffusion Soup at a small scale: soups of fine-tunes of data shards, against what they replace.

    python benchmarks/replication/soup.py [--setting small] [--seeds N] --folder FOLDER [-o RESULT]

It needs scikit-learn, for its digits. What is in the folder already is not made again.

Rule 1: whatever is trained, averaged, changed or sampled is so by soupctl's own verbs.
Rule 2: learning rates are chosen on validation images, for the first seed, and are then used for
all; everything reported is of the test images. All runs are listed, chosen or not.
Rule 3: the result is written after each part of a seed, and says how many seeds are complete.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import described_run

from replication import claims, mixtures
from replication.domains import Domains, Judge
from replication.regimes import REGIMES, Bench, Rates, arms_of, chosen_rates
from replication.settings import SETTINGS, Setting
from replication.work import Work

GEOMETRIC = "geometric mean"
PARTS = (
    "style-4",
    "leave one out",
    "noisy-4",
    "style-8",
    "memorisation",
    "style mixing",
    "one by one",
    "style-2",
    "linearity",
    "timesteps apart",
    "snapshots",
    "digits-5",
    "colour-4",
    GEOMETRIC,
)
"""What is done for each seed, in this order: regimes, and claims about some of them."""
SAMPLED = ("base", "specialist", "uniform soup", "soup by", "paragon", "greedy soup")
"""How the names of those arms begin of which samples are judged, too."""


class SoupStudy:
    """The study in a folder."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.work, self.setting = Work(folder), setting
        self.domains = Domains(self.work, setting)
        self.rates: dict[str, Rates] = {}
        self.tried: dict[str, list[dict[str, Any]]] = {}

    def judge(self, domain: str, part: str = "test") -> Judge:
        """Who judges models of a domain on a part of its images."""
        return self.domains.judge(domain, part)

    def bench(self, name: str, seed: int) -> Bench:
        """A regime of a seed."""
        regime = REGIMES[name]
        return Bench(self.work, self.setting, self.domains[regime.domain], regime, seed)

    def rates_of(self, name: str) -> Rates:
        """The rates of a regime, chosen for the first seed."""
        source = REGIMES[name].rates_of or name
        if source not in self.rates:
            judge = self.judge(REGIMES[source].domain, "validation")
            found = chosen_rates(self.bench(source, 0), judge)
            self.rates[source], self.tried[source] = found
        return self.rates[source]

    def regime(self, name: str, seed: int) -> dict[str, Any]:
        """The losses and samples of each arm in one regime, for one seed."""
        bench, rates = self.bench(name, seed), self.rates_of(name)
        judge = self.judge(bench.regime.domain)
        validation = self.judge(bench.regime.domain, "validation")
        found: dict[str, Any] = {}
        for arm, paths in arms_of(bench, rates, validation).items():
            found[arm] = judge.losses(*paths)
            if arm.startswith(SAMPLED):
                found[arm] |= judge.sampled(paths[0])
        return found

    def parts(self, seed: int, chosen: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
        """What is found for a seed, part by part: its kind, its name and its figures."""
        for name in chosen:
            if name in REGIMES:
                yield "regimes", name, self.regime(name, seed)
            elif name == GEOMETRIC:
                yield "claims", name, mixtures.compared(self.work, self.setting, seed)
            else:
                yield "claims", name, claims.CLAIMS[name](self, seed)

    def result(self, seeds: Sequence[dict[str, Any]], complete: int) -> dict[str, Any]:
        """The result so far, as its file has it; so many of the seeds are complete."""
        return {
            "study": "soup",
            **described_run(self.work.root),
            "setting": asdict(self.setting),
            "complete_seeds": complete,
            "regimes": {name: asdict(each) for name, each in REGIMES.items()},
            "classifier_accuracy": {
                name: each.held_out_accuracy for name, each in self.domains.made.items()
            },
            "floor": {name: self.judge(name).floor() for name in self.domains.made},
            "rates": {name: asdict(each) for name, each in self.rates.items()},
            "rates_tried": self.tried,
            "no_common_start": claims.no_common_start(self, complete),
            "seeds": list(seeds),
            "runs": list(self.work.trained.values()),
        }


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--seeds", type=int, help="at least 1; that of the setting by default")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--folder", type=Path, required=True, help="where to work; kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the study, or go on with it."""
    chosen = asked(arguments)
    torch.set_num_threads(chosen.threads)
    setting = SETTINGS[chosen.setting]
    study = SoupStudy(chosen.folder, setting)
    seeds: list[dict[str, Any]] = []
    for seed in range(chosen.seeds or setting.seeds):
        seeds.append({"regimes": {}, "claims": {}})
        for kind, name, found in study.parts(seed, chosen.parts):
            seeds[-1][kind][name] = found
            study.work.say(f"seed {seed}: {name}")
            complete = seed + (name == chosen.parts[-1])
            if chosen.output is not None:
                text = json.dumps(study.result(seeds, complete), indent=1)
                chosen.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
