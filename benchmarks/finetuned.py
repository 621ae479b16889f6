"""What `soupctl finetune` costs a step, beside a loop written by hand for one model.

    python benchmarks/finetuned.py [CASE...] [--pairs 21] [--steps 5] [-o RESULT.json]

Rule 1: both sides train the same model in one process, on the same images, in turn: a block of
steps each. The figure is the median of the ratios of neighbours, with its 95 % interval.
Rule 2: seconds are those of the processor, of one thread: a busy machine stretches a clock's.
Rule 3: both do what a user wants of training: images decoded, latents and captions encoded, AdamW,
clipping, a mean of the weights; ours reports and looks after signals besides.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from finetuned_bases import CASES, LR, TrainingCase
from machine import described_run
from patched import FEWEST_PAIRS, interval
from PIL import Image

from soupctl.diffusion.loading import load_models
from soupctl.training.callbacks import Callbacks, Progress
from soupctl.training.distributed import start_accelerator
from soupctl.training.loop import train
from soupctl.training.options import Options
from soupctl.training.sample_grids import GridSampler
from soupctl.training.setup import RunRequest, prepare
from soupctl.training.signals import deferred_signals
from soupctl.training.train_denoiser import batches_from, initial_state, loss_function

BOUND = 1.05
"""At most 5 % more than the loop by hand."""


class SilentReporter:
    """A reporter that prints nothing."""

    def say(self, text: str) -> None:
        """Tell one thing."""

    def begin(self, step: int, steps: int) -> None:
        """Tell that training begins."""

    def step(self, step: int) -> None:
        """Tell that a step was made."""

    def show(self, progress: Progress) -> None:
        """Tell how far it is."""

    def end(self) -> None:
        """Tell that training has ended."""


def save_data(case: TrainingCase, folder: Path, count: int = 16) -> None:
    """Images of noise with captions beside them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (case.pixels, case.pixels, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a b c")


def ours(base: Path, data: Path, out: Path, batch: int) -> Iterator[float]:
    """The loss of each step of `soupctl finetune`, all that it does between steps included."""
    options = Options(steps=1_000_000, batch_size=batch, lr=LR, save_every=1_000_000)
    request = RunRequest(base, data, out, options)
    out.mkdir()
    (run,) = prepare([request], start_accelerator(options))
    models = load_models(run.base)
    training = initial_state(run, models)
    with deferred_signals() as signals:
        grids = GridSampler(run, models)
        callbacks = Callbacks(run, training, SilentReporter(), grids, None, signals, run.identity)
        batches = batches_from(run, models, 0)
        for made in train(training, options, run.plan.steps, batches, loss_function(run, models)):
            callbacks.after_step(made)
            yield made.loss


def seconds_of(steps: Iterator[float], count: int) -> float:
    """Processor seconds of the next steps."""
    start = time.process_time()
    for _ in range(count):
        next(steps)
    return time.process_time() - start


def measured(name: str, case: TrainingCase, pairs: int, count: int) -> dict[str, Any]:
    """The figures of one case."""
    with tempfile.TemporaryDirectory(prefix="soupctl-benchmark-") as place:
        folder = Path(place)
        case.save(case, folder / "base")
        save_data(case, folder / "data")
        sides: dict[str, Iterator[float]] = {
            "ours": ours(folder / "base", folder / "data", folder / "out", case.batch),
            "by hand": case.by_hand(folder / "base", folder / "data", case.batch),
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        # the first pair warms both up; each side goes first in every other pair
        for number in range(pairs + 1):
            for side in sorted(sides, reverse=bool(number % 2)):
                seconds[side].append(seconds_of(sides[side], count) / count)
    own, hand = seconds["ours"][1:], seconds["by hand"][1:]
    ratios = [one / other for one, other in zip(own, hand, strict=True)]
    low, high = interval(ratios)
    return {
        "name": name,
        "of": "soupctl's step / step by hand",
        "pairs": pairs,
        "steps_a_block": count,
        "ratio": median(ratios),
        "interval_95": [low, high],
        "by_hand_s": median(hand),
        "soupctl_s": median(own),
        "bound": BOUND,
        # missed only if the whole interval is above
        "met": low <= BOUND,
    }


def line(figures: dict[str, Any]) -> str:
    """One case for people to read."""
    low, high = figures["interval_95"]
    return (
        f"{figures['name']}: {figures['of']} {figures['ratio']:.3f} ({low:.3f}-{high:.3f}) of "
        f"{figures['by_hand_s'] * 1000:.1f} ms, bound {figures['bound']:.2f}: "
        + ("met" if figures["met"] else "MISSED")
    )


def main() -> int:
    """Run the cases that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.cases) - CASES.keys()):
        parser.error(f"no case {unknown[0]}; there are {', '.join(CASES)}")
    if chosen.pairs < FEWEST_PAIRS:
        parser.error(f"an interval takes {FEWEST_PAIRS} pairs or more")
    torch.set_num_threads(1)
    found = []
    for name in chosen.cases or CASES:
        found.append(measured(name, CASES[name], chosen.pairs, chosen.steps))
        print(line(found[-1]), flush=True)
    if chosen.output is not None:
        result = {
            **described_run(Path.cwd()),
            "cases": found,
        }
        chosen.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
