"""Options of a prompt bank, and published settings for them; nothing heavy is imported.

Rule 1: each of these options changes the trained weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields

from ..banks.config import GATE_GRID, GateInput, GateKind
from ..choices import Balance, Preset, Schedule
from ..errors import Issue, UsageError
from ..frozen import frozen
from .option_fields import Bounds, CommandOptions, option, out_of_bounds
from .options import Options

MIXTURE_PROMPTS = 8
"""Default number of whole prompts of a block with a mixture gate."""
RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")

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
        "lr_schedule": Schedule.CONSTANT,
        "gate_lr_scale": 10.0,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "ema": False,
    }
}


@frozen
class PatchOptions:
    """The options of a prompt bank; its base is given elsewhere.

    Raises UsageError, with all issues at once, for invalid values.
    """

    blocks: str = option(
        "all",
        "Blocks that receive prompts: all, or numbers from 0 such as 0-3,7.",
        metavar="BLOCKS",
    )
    gate: GateKind = option(
        GateKind.TOKEN,
        "What the gate weighs: positions of one prompt (token) or several prompts (mixture).",
    )
    prompts: int | None = option(
        None,
        "Prompts per block.",
        Bounds(1),
        metavar="N",
        default_text=f"1 for token, {MIXTURE_PROMPTS} for mixture",
    )
    gate_input: GateInput = option(
        GateInput.TIME,
        "Input of the gate: the timestep, the timestep and the class, or none for fixed weights.",
    )
    gate_topk: float = option(
        1.0, "Fraction of the gate's weights to keep.", Bounds(0, 1, above=True), metavar="P"
    )
    gate_grid: int = option(
        GATE_GRID,
        "Most rows and columns of gate weights for a block of a UNet.",
        Bounds(1),
        is_on_command_line=False,
    )
    gate_noise: bool = option(False, "Add noise to the gate's logits in training.")
    """As in Shazeer et al. 2017 (arXiv 1701.06538)."""
    gate_lr_scale: float = option(
        0.1, "Learning rate of the gate, in multiples of --lr.", Bounds(0, above=True), metavar="X"
    )
    gate_from: str | None = option(
        None, "Take the gate of this bank, and keep it frozen.", metavar="BANK"
    )
    balance: float = option(
        0.0, "Weight of the load-balancing loss of the gate.", Bounds(0), metavar="X"
    )
    balance_form: Balance = option(
        Balance.AS_CODED, "Form of the load-balancing loss.", is_on_command_line=False
    )
    prepend: int = option(
        0,
        "Prompts to put before a DiT's sequence; 0 to add prompts to the blocks' inputs.",
        Bounds(0),
        is_on_command_line=False,
    )

    def __post_init__(self) -> None:
        """Raise UsageError for invalid values."""
        if issues := [Issue(text) for text in _problems(self)]:
            raise UsageError.collected(issues)

    @property
    def whole_prompts(self) -> int:
        """Number of whole prompts of a block."""
        if self.prompts is not None:
            return self.prompts
        return MIXTURE_PROMPTS if self.gate is GateKind.MIXTURE else 1

    @property
    def numbers(self) -> dict[str, str]:
        """The options as texts by name, without `gate_from`: a gate is identified by its digest."""
        texts = {each.name: str(getattr(self, each.name)) for each in fields(self)}
        del texts["gate_from"]
        return {**texts, "prompts": str(self.whole_prompts)}

    def chooses(self, depth: int) -> bool:
        """Whether block number `depth`, counted from 0, receives prompts."""
        return self.blocks == "all" or any(
            first <= depth <= last for first, last in _ranges(self.blocks)
        )

    @property
    def deepest(self) -> int:
        """The highest block number in `blocks`; 0 for all."""
        return 0 if self.blocks == "all" else max(last for _, last in _ranges(self.blocks))


def _ranges(text: str) -> list[tuple[int, int]]:
    """First and last block of each range in `0-3,7`; ValueError if one is malformed."""
    found = []
    for part in text.split(","):
        match = RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError("not a range")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError("ends before it begins")
        found.append((first, last))
    return found


def _problems(options: PatchOptions) -> Iterator[str]:
    try:
        _ = options.deepest
    except ValueError:
        yield f"--blocks must be all or numbers such as 0-3,7, not {options.blocks!r}"
    if options.prepend > 1 and options.gate is GateKind.MIXTURE:
        # the gate weighs whole prompts, so those of one would get equal gradients
        yield "prepend in --config must be 0 or 1 with --gate mixture, or its prompts stay equal"
    yield from out_of_bounds(options)


PATCH_DMP = CommandOptions((PatchOptions, Options), is_for_banks=True)
"""The options of `soupctl patch-dmp`."""
