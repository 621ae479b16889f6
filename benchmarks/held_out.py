"""Whether a prompt bank lowers the held-out denoising loss of a small DiT that has converged.

    python benchmarks/held_out.py [STUDY...] [--seeds 5] [--folder FOLDER] [-o RESULT.json]

It needs scikit-learn, for its digits. What is in the folder already is not trained again.

Rule 1: all training is done by soupctl's commands, with their defaults but for what `arms.py` says;
losses are measured by `denoising.py`, for every model on the same triples.
Rule 2: a base has converged when its loss on the validation part is flat, and is taken where that
was least, or when its learning rate has decayed to zero; each arm starts from it, for equally many
steps, with a seed of its own.
Rule 3: an arm's learning rate is the one with the least loss on the validation part, for the first
seed; it is then used for all seeds. Nothing is chosen by the test part, which is measured last.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from arms import ARMS, QUICK, STUDIES, Size
from denoising import (
    MOST_SEEDS,
    QUARTERS,
    Losses,
    Triples,
    compared,
    draw_triples,
    interval,
    losses,
)
from digits import PARTS, LabelledImages, digits, load_base, write_images, write_new_base
from machine import described_run

from soupctl.banks.attachment import attach
from soupctl.banks.bank import PromptBank
from soupctl.banks.blocks import describe_base
from soupctl.banks.config import BankConfig
from soupctl.banks.files import load_bank, save_bank
from soupctl.cli.app import commands
from soupctl.cli.error_report import ErrorStyle

FLAT = 0.005
"""A loss is flat if it got less by a smaller share than this in the last chunks."""
OWN_SEEDS = 100
"""Added to the seed of a base for the runs that start from it, so that their draws differ."""


@dataclass(frozen=True, slots=True)
class Study:
    """Where everything is, and what is measured on."""

    folder: Path
    size: Size
    parts: Mapping[str, LabelledImages]

    def triples(self, part: str) -> Triples:
        """The triples of a part, the same whenever they are asked for."""
        return draw_triples(self.parts[part], self.size.draws, PARTS.index(part))

    def place(self, seed: int) -> Path:
        """The folder of a seed."""
        return self.folder / f"seed-{seed}"


def begin(folder: Path, size: Size) -> Study:
    """The study in a folder, to be resumed; ValueError if it is one of another size."""
    settings = folder / "settings.json"
    text = json.dumps({"size": asdict(size), "flat": FLAT}, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    if settings.exists() and settings.read_text() != text:
        raise ValueError(f"{folder} has a study with other settings")
    settings.write_text(text)
    return Study(folder, size, digits(size.images))


def train(study: Study, words: Sequence[str], base: Path, run: Path, **options: object) -> None:
    """Run or resume one of soupctl's training commands."""
    data = write_images(study.parts["train"], study.folder / "data")
    given = {"data": data, "output": run, "batch-size": study.size.batch, **options}
    # the last step is saved in any case
    given |= {"save-every": study.size.chunk + study.size.steps}
    texts = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    commands().main([*words, str(base), *texts, "--quiet"], standalone_mode=False, obj=ErrorStyle())


def converged(study: Study, seed: int) -> tuple[Path, list[float]]:
    """The base of a seed, and its validation losses by chunk on the way, the least one its own."""
    place, size = study.place(seed), study.size
    course = place / "validation.json"
    curve = json.loads(course.read_text()) if course.exists() else []
    triples = study.triples("validation")
    while not is_flat(curve, size.patience) and len(curve) < size.most:
        start = write_new_base(size.shape, seed, place / "new")
        steps = size.chunk * (len(curve) + 1)
        rate = {"lr": size.rate, "lr-schedule": size.schedule}
        train(study, ("finetune",), start, place / "run", steps=steps, seed=seed, **rate)
        loss = float(losses(load_base(place / "run" / "model"), triples).mean())
        if loss < min(curve, default=float("inf")):
            shutil.copytree(place / "run" / "model", place / "base", dirs_exist_ok=True)
        curve.append(loss)
        course.write_text(json.dumps(curve))
        print(f"seed {seed}: base, {steps} steps, validation {loss:.5f}", flush=True)
    return place / "base", curve


def is_flat(curve: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` losses are no progress on those before them."""
    if len(curve) <= patience:
        return False
    return min(curve[-patience:]) > min(curve[:-patience]) * (1 - FLAT)


def train_arm(study: Study, seed: int, name: str, rate: float) -> Path:
    """The run of an arm, trained from the base of a seed."""
    arm, place = ARMS[name], study.place(seed)
    words = list(arm.words)
    if arm.uniform:
        words += ["--gate-from", str(uniform_gate(place))]
    run, own = run_of(place, name, rate), OWN_SEEDS + seed
    train(study, words, place / "base", run, steps=study.size.steps, lr=rate, seed=own)
    return run


def run_of(place: Path, name: str, rate: float) -> Path:
    """The folder of an arm's run."""
    return place / f"{name.replace(', ', '-').replace(' ', '-')}-{rate:g}"


def uniform_gate(place: Path) -> Path:
    """A bank for the base in a seed's folder that is zero: its gate weighs all alike."""
    target = place / "uniform"
    if not target.is_dir():
        save_bank(PromptBank(BankConfig(describe_base(load_base(place / "base")))), target)
    return target


def losses_of(base: Path, run: Path | None, triples: Triples) -> Losses:
    """The losses of what a run from a base ended with, or, with none, of the base itself."""
    if run is None:
        return losses(load_base(base), triples)
    if not (run / "bank").is_dir():
        return losses(load_base(run / "model"), triples)
    model = load_base(base)
    with attach(model, load_bank(run / "bank")):
        return losses(model, triples)


def choose_rates(study: Study, seed: int) -> dict[str, dict[float, float]]:
    """By arm and learning rate, the validation loss in per cent above the base's of a seed."""
    triples, base = study.triples("validation"), study.place(seed) / "base"
    before = losses_of(base, None, triples)
    found: dict[str, dict[float, float]] = {}
    for name, arm in ARMS.items():
        found[name] = {}
        for rate in arm.rates:
            run = train_arm(study, seed, name, rate)
            found[name][rate] = compared(losses_of(base, run, triples), before)["percent"]
            print(f"{name}, lr {rate:g}: validation {found[name][rate]:+.3f} %", flush=True)
    return found


def measured(study: Study, seeds: Sequence[int], rates: Mapping[str, float]) -> list[Any]:
    """What each seed's base and arms lose on each part; the test part is the last."""
    found: list[Any] = [{"seed": seed, "base": {}, "arms": {}} for seed in seeds]
    for part in PARTS:
        triples = study.triples(part)
        for row in found:
            place = study.place(row["seed"])
            before = losses_of(place / "base", None, triples)
            row["base"][part] = float(before.mean())
            for name, rate in rates.items():
                after = losses_of(place / "base", run_of(place, name, rate), triples)
                row["arms"].setdefault(name, {})[part] = compared(after, before)
    return found


def summary(rows: Sequence[Any]) -> dict[str, Any]:
    """By arm and part, the mean over the seeds in per cent of the base, with its interval."""
    found: dict[str, Any] = {}
    for name in rows[0]["arms"]:
        found[name] = {}
        for part in PARTS:
            every = [row["arms"][name][part] for row in rows]
            found[name][part] = interval([each["percent"] for each in every]) | {
                "quarters": [
                    interval([each["quarters"][quarter] for each in every])
                    for quarter in range(QUARTERS)
                ]
            }
    return found


def study_of(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that was found, as a result file has it."""
    curves = {seeds[0]: converged(study, seeds[0])[1]}
    table = choose_rates(study, seeds[0])
    rates = {name: min(tried, key=tried.__getitem__) for name, tried in table.items()}
    for seed in seeds[1:]:
        curves[seed] = converged(study, seed)[1]
        for name, rate in rates.items():
            train_arm(study, seed, name, rate)
            print(f"seed {seed}: {name} trained", flush=True)
    rows = measured(study, seeds, rates)
    return {
        "size": asdict(study.size),
        "validation_of_bases": curves,
        "validation_by_rate": table,
        "rates": rates,
        "seeds": rows,
        "summary": summary(rows),
    }


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """The result for people."""
    found = ["losses in per cent above the base's; mean over seeds, 95 % interval"]
    for name, parts in result["summary"].items():
        for part, each in parts.items():
            quarters = " ".join(f"{one['mean']:+.2f}" for one in each["quarters"])
            found.append(
                f"{name + ', lr ' + format(result['rates'][name], 'g'):34} {part:10} "
                f"{each['mean']:+.3f} ({each['low']:+.3f} to {each['high']:+.3f}); "
                f"by quarter of the timesteps {quarters}"
            )
    return found


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--seeds", type=int, default=5, help=f"2 to {MOST_SEEDS}")
    parser.add_argument("--folder", type=Path, help="where to train; kept, to go on there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few steps, which show nothing")
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.studies) - STUDIES.keys()):
        parser.error(f"no study {unknown[0]}; there are {', '.join(STUDIES)}")
    if not 2 <= chosen.seeds <= MOST_SEEDS:
        parser.error(f"an interval takes 2 seeds or more, and {MOST_SEEDS} are the most")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or resume the studies; 1 if the folder has others."""
    chosen = asked(arguments)
    torch.set_num_threads(chosen.threads)
    sizes = {name: STUDIES[name] for name in chosen.studies or STUDIES}
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        for name, size in ({"quick": QUICK} if chosen.quick else sizes).items():
            try:
                study = begin(folder / name, size)
            except ValueError as error:
                print(error, file=sys.stderr)
                return 1
            found[name] = study_of(study, range(chosen.seeds))
            print("\n".join([f"{name}:", *lines_of(found[name])]), flush=True)
        result = {
            **described_run(folder),
            "flat": FLAT,
            "arms": {name: asdict(arm) for name, arm in ARMS.items()},
            "studies": found,
        }
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
