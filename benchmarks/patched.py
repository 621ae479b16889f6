"""What a prompt bank costs: a patched pass beside the base's, a training step beside a full one.

    python benchmarks/patched.py [CASE...] [--pairs 7] [--processes 5] [-o RESULT.json]

Rule 1: both sides run in turn, on one model and one input; the figure is the median
of the ratios of neighbours, with its 95 % interval by order statistics.
Rule 2: seconds are those of the processor, of one thread unless asked otherwise: a busy machine
stretches a clock's, and two threads that wait for each other spend some of their own. Where its
memory happens to lie makes a process some per cent faster or slower, so there are several.
Rule 3: nothing is measured unless a zero bank gives the base's output bit for bit, and one that is
not zero another.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel
from gate import RedGate
from machine import described_run

from soupctl.banks.attachment import attach
from soupctl.banks.bank import PromptBank
from soupctl.banks.blocks import base_parameters, describe_base
from soupctl.banks.config import GATE_GRID, TRANSFORMERS, BankConfig, GateKind

FORWARD_BOUND = 1.03
"""At most 3 % more than the base's forward pass."""
FEWEST_PAIRS = 6
"""With fewer, no interval between two of the ratios holds the median with 95 %."""
STEP_BOUND = 1.0
"""A step that trains a bank is faster than one that trains the base."""


@dataclass(frozen=True, slots=True)
class BankCase:
    """A base, a bank on it, and what is run."""

    model: Callable[[], Any]
    batch: int
    options: dict[str, Any]
    step: bool = False
    """Whether training steps are compared, and not forward passes."""


def dit(heads: int, blocks: int) -> Any:
    """A DiT with patches of 2 on latents of 32 x 32: 256 tokens, 64 numbers a head."""
    return DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=64, num_layers=blocks, out_channels=8
    )


def small_dit() -> Any:
    """The shapes of DiT-S/2."""
    return dit(6, 12)


def base_dit() -> Any:
    """The shapes of DiT-B/2."""
    return dit(12, 12)


def half_unet() -> Any:
    """Stable Diffusion 1.5 with half as many channels, on latents of 32 x 32."""
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(160, 320, 640, 640),
        cross_attention_dim=768,
        attention_head_dim=8,
    )


MIXTURE = {"gate": GateKind.MIXTURE, "num_prompts": 8}

CASES = {
    "dit-s": BankCase(small_dit, 4, {}),
    "dit-b": BankCase(base_dit, 2, {}),
    "dit-b-mixture": BankCase(base_dit, 2, MIXTURE),
    "unet": BankCase(half_unet, 2, {}),
    "dit-s-step": BankCase(small_dit, 4, {}, step=True),
}


def filled_bank(model: Any, options: dict[str, Any]) -> PromptBank:
    """A bank with small prompts and gates, as training leaves them."""
    base = describe_base(model)
    if base.kind not in TRANSFORMERS and "gate" not in options:
        options = {"gate_grid": GATE_GRID, **options}
    bank = PromptBank(BankConfig(base, **options))
    generator = torch.Generator().manual_seed(1)
    for parameter in bank.parameters():
        parameter.data.normal_(0, 0.02, generator=generator)
    return bank


def arguments(model: Any, batch: int) -> dict[str, Any]:
    """One input, the same in every run."""
    generator = torch.Generator().manual_seed(2)
    size = model.config.sample_size
    sample = torch.randn(batch, model.config.in_channels, size, size, generator=generator)
    times = torch.linspace(1, 999, batch).long()
    if type(model).__name__ in TRANSFORMERS:
        return {"hidden_states": sample, "timestep": times, "class_labels": torch.arange(batch)}
    text = torch.randn(batch, 77, model.config.cross_attention_dim, generator=generator)
    return {"sample": sample, "timestep": times, "encoder_hidden_states": text}


def require_right(model: Any, bank: PromptBank, inputs: dict[str, Any]) -> None:
    """Raise RedGate unless a zero bank does nothing at all, and `bank` something."""
    with torch.no_grad():
        expected = model(**inputs).sample
        with attach(model, PromptBank(bank.config)):
            zero = model(**inputs).sample
        with attach(model, bank):
            patched = model(**inputs).sample
        after = model(**inputs).sample
    if not torch.equal(expected, zero):
        raise RedGate("a zero bank changes the output")
    if torch.equal(expected, patched) or not torch.equal(expected, after):
        raise RedGate("a bank does nothing, or leaves something behind")


def forward(model: Any, inputs: dict[str, Any], bank: PromptBank, patched: bool) -> float:
    """Processor seconds of one forward pass, with the bank or without."""
    with attached(model, bank, patched), torch.no_grad():
        start = time.process_time()
        model(**inputs)
        return time.process_time() - start


def step(model: Any, inputs: dict[str, Any], bank: PromptBank, patched: bool) -> float:
    """Processor seconds of one step, optimizer included, of the bank or else of the whole model."""
    model.requires_grad_(not patched)
    trained = list((bank if patched else model).parameters())
    optimizer = torch.optim.AdamW(trained, lr=1e-7, weight_decay=0.0)
    with attached(model, bank, patched):
        # the first step makes the optimizer's state, which later ones have
        for _ in range(2):
            start = time.process_time()
            optimizer.zero_grad()
            model(**inputs).sample.square().mean().backward()
            optimizer.step()
            seconds = time.process_time() - start
    for parameter in trained:
        parameter.grad = None
    return seconds


@contextmanager
def attached(model: Any, bank: PromptBank, patched: bool) -> Iterator[None]:
    """Attach the bank, and take it off at once unless `patched`, so that both sides begin alike."""
    with attach(model, bank) as attachment:
        if not patched:
            attachment.remove()
        yield


def interval(ratios: list[float]) -> tuple[float, float]:
    """The order statistics between which the median lies with a probability of 95 % or more."""
    ordered = sorted(ratios)
    count = len(ordered)
    # the median is below the k-th smallest as often as fewer than k of `count` fair coins are heads
    below = 1
    while sum(comb(count, heads) for heads in range(below + 1)) / 2**count <= 0.025:
        below += 1
    return ordered[below - 1], ordered[count - below]


def timed(name: str, pairs: int, threads: int) -> dict[str, Any]:
    """Seconds of both sides in one process, pair by pair, and the sizes of base and bank."""
    torch.set_num_threads(threads)
    case = CASES[name]
    model = case.model().eval()
    # the blocks of a new DiT output zeros, which are not a realistic load
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.02, generator=generator)
    bank = filled_bank(model, case.options)
    inputs = arguments(model, case.batch)
    require_right(model, bank, inputs)
    run = step if case.step else forward
    seconds: dict[bool, list[float]] = {False: [], True: []}
    # the first pair warms both up; each side goes first in every other pair
    for number in range(pairs + 1):
        for patched in (False, True) if number % 2 else (True, False):
            seconds[patched].append(run(model, inputs, bank, patched))
    sizes = {"base": base_parameters(model), "bank": bank.config.parameters}
    return {"base": seconds[False][1:], "patched": seconds[True][1:], "parameters": sizes}


def measured(name: str, pairs: int, processes: int, threads: int) -> dict[str, Any]:
    """The figures of one case, over all pairs of all processes."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        runs = [pool.apply(timed, (name, pairs, threads)) for _ in range(processes)]
    is_step = CASES[name].step
    ratios = [
        ours / theirs
        for run in runs
        for ours, theirs in zip(run["patched"], run["base"], strict=True)
    ]
    low, high = interval(ratios)
    bound = STEP_BOUND if is_step else FORWARD_BOUND
    return {
        "name": name,
        "of": "bank's step / full step" if is_step else "patched / base",
        "pairs": len(ratios),
        "ratio": median(ratios),
        "interval_95": [low, high],
        "ratio_by_process": [
            median(one / other for one, other in zip(run["patched"], run["base"], strict=True))
            for run in runs
        ],
        "base_s": median(second for run in runs for second in run["base"]),
        "parameters": runs[0]["parameters"],
        "bound": bound,
        # missed only if the whole interval is above
        "met": low <= bound,
    }


def line(figures: dict[str, Any]) -> str:
    """One case for people to read."""
    low, high = figures["interval_95"]
    apart = ", ".join(f"{ratio:.3f}" for ratio in figures["ratio_by_process"])
    verdict = "met" if figures["met"] else "MISSED"
    return (
        f"{figures['name']}: {figures['of']} {figures['ratio']:.3f} ({low:.3f}-{high:.3f}) of "
        f"{figures['base_s']:.3f} s, bound {figures['bound']:.2f}: {verdict} "
        f"(by process {apart})"
    )


def main() -> int:
    """Run the cases that were named, or all; 1 if the gate is red."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--pairs", type=int, default=7, help="in each process")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.cases) - CASES.keys()):
        parser.error(f"no case {unknown[0]}; there are {', '.join(CASES)}")
    if chosen.pairs * chosen.processes < FEWEST_PAIRS:
        parser.error(f"an interval takes {FEWEST_PAIRS} pairs or more")
    found = []
    for name in chosen.cases or CASES:
        try:
            found.append(measured(name, chosen.pairs, chosen.processes, chosen.threads))
        except RedGate as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(line(found[-1]), flush=True)
    if chosen.output is not None:
        result = {
            **described_run(Path.cwd()),
            "threads": chosen.threads,
            "cases": found,
        }
        chosen.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
