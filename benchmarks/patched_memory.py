"""What memory a training step of a prompt bank takes, beside a step that trains the whole model.

    python benchmarks/patched_memory.py [CASE...] [--pairs 7] [-o RESULT.json]

Rule 1: each step has a process of its own, and the sides take turns; the figure is the median of
the ratios of neighbours, with its 95 % interval by order statistics.
Rule 2: it is the most that ever was in memory (VmHWM), less what was there before the model was
made: what the libraries take is not a part of it, and the model is.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import described_run
from patched import CASES, FEWEST_PAIRS, BankCase, arguments, filled_bank, interval, step

BOUND = 1.0
"""A step that trains a bank takes less than one that trains the base."""
STEPS: dict[str, BankCase] = {
    "dit-s": CASES["dit-s-step"],
    "dit-b": replace(CASES["dit-b"], step=True),
    "unet": replace(CASES["unet"], step=True),
}


def in_memory(name: str) -> int:
    """Bytes of this process as the kernel counts them, such as VmHWM, the most so far."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(f"{name}:"):
            return int(row.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {name}")


def warm_up() -> None:
    """Load what the first step of any model loads."""
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.square().sum().backward()
    torch.optim.AdamW([parameter]).step()


def peak(name: str, patched: bool, threads: int) -> int:
    """Bytes that two steps take, of a bank or else of the whole model, the model among them."""
    torch.set_num_threads(threads)
    warm_up()
    # resets the peak that was reached while the libraries were loaded
    Path("/proc/self/clear_refs").write_text("5")
    before = in_memory("VmHWM")
    case = STEPS[name]
    model = case.model().eval()
    bank = filled_bank(model, case.options)
    step(model, arguments(model, case.batch), bank, patched)
    return in_memory("VmHWM") - before


def measured(name: str, pairs: int, threads: int) -> dict[str, Any]:
    """The figures of one case."""
    found: dict[bool, list[int]] = {False: [], True: []}
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        # each side goes first in every other pair
        for number in range(pairs):
            for patched in (False, True) if number % 2 else (True, False):
                found[patched].append(pool.apply(peak, (name, patched, threads)))
    ratios = [ours / whole for ours, whole in zip(found[True], found[False], strict=True)]
    low, high = interval(ratios)
    return {
        "name": name,
        "of": "bank's step / full step, bytes",
        "pairs": pairs,
        "ratio": median(ratios),
        "interval_95": [low, high],
        "full_bytes": median(found[False]),
        "bank_bytes": median(found[True]),
        "bound": BOUND,
        # missed only if the whole interval is above
        "met": low <= BOUND,
    }


def line(figures: dict[str, Any]) -> str:
    """One case for people to read."""
    low, high = figures["interval_95"]
    bank, full = (figures[name] / 2**20 for name in ("bank_bytes", "full_bytes"))
    return (
        f"{figures['name']}: {bank:.0f} MiB of {full:.0f} MiB, {figures['ratio']:.3f} "
        f"({low:.3f}-{high:.3f}), bound {figures['bound']:.2f}: "
        + ("met" if figures["met"] else "MISSED")
    )


def main() -> int:
    """Measure the cases that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(STEPS))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.cases) - STEPS.keys()):
        parser.error(f"no case {unknown[0]}; there are {', '.join(STEPS)}")
    if chosen.pairs < FEWEST_PAIRS:
        parser.error(f"an interval takes {FEWEST_PAIRS} pairs or more")
    found = []
    for name in chosen.cases or STEPS:
        found.append(measured(name, chosen.pairs, chosen.threads))
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
