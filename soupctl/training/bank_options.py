"""What a prompt bank is asked to be, checked before anything heavy is loaded.

Rule 1: all of these options change numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from ..banks.config import GATE_GRID, GateInput, GateKind
from ..choices import Balance, Preset
from ..errors import Issue, UsageError

MIXTURE_PROMPTS = 8
"""Whole prompts a block of a mixture has, unless asked otherwise."""
RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")

DEFAULTS: Mapping[str, object] = {"lr": 1e-4, "weight_decay": 0.0, "ema": False}
"""Options of training that are others for banks than for whole denoisers."""

PRESETS: Mapping[Preset, Mapping[str, object]] = {
    Preset.OFFICIAL: {
        "blocks": "all",
        "gate": GateKind.TOKEN,
        "gate_input": GateInput.TIME_AND_CLASS,
        "gate_topk": 1.0,
        "gate_noise": True,
        "balance": 1.0,
        "balance_form": Balance.AS_CODED,
        "lr": 1e-4,
        "gate_lr_scale": 10.0,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "ema": False,
    }
}


@dataclass(frozen=True, slots=True)
class PatchOptions:
    """A prompt bank, but for its base.

    Raises UsageError, with all issues at once, for values that no bank could have.
    """

    blocks: str = "all"
    """Which blocks of the base take prompts, such as `0-3,7`, counted from 0."""
    gate: GateKind = GateKind.TOKEN
    prompts: int | None = None
    """Whole prompts of a block; None for 1 with a token gate, and 8 with a mixture."""
    gate_input: GateInput = GateInput.TIME
    gate_topk: float = 1.0
    """Share of a gate's weights that is kept."""
    gate_grid: int = GATE_GRID
    """Most rows and columns of weights for a block of a UNet."""
    gate_noise: bool = False
    """Whether logits are noisy in training (Shazeer et al. 2017, arXiv 1701.06538)."""
    balance: float = 0.0
    """What importance and load count in the loss."""
    balance_form: Balance = Balance.AS_CODED
    gate_lr_scale: float = 10.0
    """How many times as fast as the prompts the gate learns."""
    prepend: int = 0
    """Prompts before a transformer's sequence; 0 to add them to the blocks' inputs."""
    gate_from: str | None = None
    """A bank whose gate is taken, and stays as it is."""

    def __post_init__(self) -> None:
        """Refuse what no bank could have, with all issues at once."""
        if issues := [Issue(text) for text in _problems(self)]:
            raise UsageError.collected(issues)

    @property
    def whole_prompts(self) -> int:
        """How many whole prompts a block has."""
        if self.prompts is not None:
            return self.prompts
        return MIXTURE_PROMPTS if self.gate is GateKind.MIXTURE else 1

    @property
    def numbers(self) -> dict[str, str]:
        """The options as texts by name; that a gate was taken is told by its digest."""
        texts = {each.name: str(getattr(self, each.name)) for each in fields(self)}
        del texts["gate_from"]
        return {**texts, "prompts": str(self.whole_prompts)}

    def chooses(self, depth: int) -> bool:
        """Whether the block that has so many before it takes prompts."""
        return self.blocks == "all" or any(
            first <= depth <= last for first, last in _ranges(self.blocks)
        )

    @property
    def deepest(self) -> int:
        """The last block that was asked for by its number; 0 if none was."""
        return 0 if self.blocks == "all" else max(last for _, last in _ranges(self.blocks))


def _ranges(text: str) -> list[tuple[int, int]]:
    """First and last of each range in `0-3,7`; ValueError for what is none."""
    found = []
    for part in text.split(","):
        match = RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError("is no range")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError("ends before it begins")
        found.append((first, last))
    return found


def _problems(options: PatchOptions) -> Iterator[str]:
    try:
        _ = options.deepest
    except ValueError:
        yield f"--blocks {options.blocks!r} is neither all nor numbers such as 0-3,7"
    if options.prompts is not None and options.prompts < 1:
        yield f"--prompts is {options.prompts}, which is less than 1"
    if not 0 < options.gate_topk <= 1:
        yield f"--gate-topk is {options.gate_topk}, which is not above 0 and at most 1"
    if not 0 <= options.balance < math.inf:
        yield f"--balance is {options.balance}, which is less than 0"
    if not 0 < options.gate_lr_scale < math.inf:
        yield f"--gate-lr-scale is {options.gate_lr_scale}, which is not positive"
    for name in ("gate_grid", "prepend"):
        value, least = getattr(options, name), 1 if name == "gate_grid" else 0
        if value < least:
            yield f"{name.replace('_', '-')} in --config is {value}, which is less than {least}"
