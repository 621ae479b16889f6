"""What a prompt bank is, as a value: the base that it patches, its prompts and its gate.

Rule 1: everything that decides a bank's tensors and its forward pass is in a `BankConfig`, and
nothing else is needed to tell the name and shape of each tensor.
Rule 2: a `BankConfig` that exists is sound; whoever makes one from text says which file it was.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import prod

from ..errors import Issue, UsageError

TRANSFORMERS = ("DiTTransformer2DModel",)
"""Classes of bases whose blocks take tokens [N, D]."""
UNETS = ("UNet2DConditionModel", "UNet2DModel")
"""Classes of bases whose blocks take maps [C, H, W]."""

GATE_GRID = 16
"""Side of the grid on which a gate weighs a UNet's positions, unless asked otherwise."""

TRANSFORMER_BLOCK = re.compile(r"transformer_blocks\.(0|[1-9][0-9]{0,4})")
UNET_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(0|[1-9][0-9]{0,4})|mid_block")
LARGEST = 1 << 31


class GateKind(StrEnum):
    """What a gate weighs."""

    TOKEN = "token"  # noqa: S105
    """Positions: each block has one prompt a position, and a weight for each of them."""
    MIXTURE = "mixture"
    """Whole prompts: each block has several for all positions, and a weight for each of them."""


class GateInput(StrEnum):
    """What a gate looks at, beside the depth of the block."""

    TIME = "time"
    """The base's embedding of the timestep."""
    TIME_AND_CLASS = "time+class"
    """The vector that conditions the base's blocks: timestep, and class or whatever it has."""


@dataclass(frozen=True, slots=True)
class Site:
    """A block of a base, by name, and the shape of what goes into it."""

    name: str
    depth: int
    """How many blocks of the base come before it; the gate is told."""
    shape: tuple[int, ...]
    """Without the batch: [N, D] in a transformer, [C, H, W] in a UNet."""


@dataclass(frozen=True, slots=True)
class BaseDescription:
    """What a bank knows of its base; what is None is not known, and not compared."""

    kind: str
    """Class of the denoiser in diffusers."""
    sites: tuple[Site, ...]
    """Blocks in the order of the forward pass: all of a base, in a bank those it patches."""
    sample_size: tuple[int, int]
    """Height and width of the latents, or pixels, that make these shapes."""
    embedding_width: int
    """Numbers in the embedding of a timestep."""
    config_digest: str | None = None
    num_train_timesteps: int | None = None
    prediction_type: str | None = None
    digest: str | None = None
    """Content digest of the denoiser's weights."""
    name: str = ""
    """What a person calls it; never compared."""


@dataclass(frozen=True, slots=True)
class BankConfig:
    """A prompt bank without its numbers; UsageError for one that cannot be."""

    base: BaseDescription
    gate: GateKind = GateKind.TOKEN
    gate_input: GateInput = GateInput.TIME
    topk: float = 1.0
    """Share of a gate's weights that is kept for each sample, the largest ones."""
    num_prompts: int = 1
    """Whole prompts a block has: K with a `mixture` gate, 1 with a `token` gate."""
    gate_grid: int | None = None
    """Most rows, and columns, of weights for a UNet's positions; None where there is no grid."""
    noisy: bool = False
    """Whether the gate has the noise table that training can use (Shazeer et al. 2017, eq. 4)."""
    prepended: int = 0
    """Prompts put before a transformer's sequence; 0 where they are added to the block's input."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, all of it in one error."""
        if issues := [*_base_issues(self.base), *_gate_issues(self)]:
            raise UsageError.collected(Issue(issue) for issue in issues)
        few = [rows for rows in self.gates if self.kept(rows) < 1]
        if few:
            raise UsageError(f"a top-k share of {self.topk} keeps none of {few[0]} weights")

    @property
    def is_transformer(self) -> bool:
        """Whether the base's blocks take tokens, and not maps."""
        return self.base.kind in TRANSFORMERS

    @property
    def gates(self) -> tuple[int, ...]:
        """How many weights each gate gives; blocks with equal numbers share one."""
        return tuple(sorted({self.rows(site) for site in self.base.sites}))

    def rows(self, site: Site) -> int:
        """How many weights the gate gives a block."""
        if self.gate is GateKind.MIXTURE:
            return self.num_prompts
        return prod(self.grid(site)) if self.gate_grid else self.prepended or site.shape[0]

    def grid(self, site: Site) -> tuple[int, int]:
        """Rows and columns of the weights for a UNet block: never more than its positions have."""
        assert self.gate_grid is not None
        _, height, width = site.shape
        return min(self.gate_grid, height), min(self.gate_grid, width)

    def kept(self, rows: int) -> int:
        """How many of a gate's weights are not zero: the share as written, rounded down."""
        return int(Fraction(str(self.topk)) * rows)

    def prompt_shape(self, site: Site) -> tuple[int, ...]:
        """Shape of a block's prompts: that of its input, or K times that for a mixture."""
        one = (self.prepended, site.shape[1]) if self.prepended else site.shape
        return (self.num_prompts, *one) if self.gate is GateKind.MIXTURE else one

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor of the bank's file, by name."""
        width = self.base.embedding_width
        shapes = {f"prompts.{site.name}": self.prompt_shape(site) for site in self.base.sites}
        for rows in self.gates:
            shapes[f"gate.{rows}.weight"] = (rows, width + 1)
            shapes[f"gate.{rows}.bias"] = (rows,)
            if self.noisy:
                shapes[f"gate.{rows}.noise"] = (rows, width)
        return shapes

    @property
    def parameters(self) -> int:
        """Numbers that sampling uses: prompts and gates, without noise tables."""
        return sum(prod(shape) for name, shape in self.tensors.items() if not is_noise(name))


def is_noise(name: str) -> bool:
    """Whether a bank's tensor is a noise table, which only training uses."""
    return name.startswith("gate.") and name.endswith(".noise")


def _base_issues(base: BaseDescription) -> list[str]:
    if base.kind not in TRANSFORMERS + UNETS:
        known = ", ".join(TRANSFORMERS + UNETS)
        return [
            f"{reprlib.repr(base.kind)} is no base that prompts can be added to; these are: {known}"
        ]
    is_transformer = base.kind in TRANSFORMERS
    pattern = TRANSFORMER_BLOCK if is_transformer else UNET_BLOCK
    issues = [] if base.sites else ["there are no blocks"]
    for site in base.sites:
        if not pattern.fullmatch(site.name):
            issues.append(f"{reprlib.repr(site.name)} is no block of a {base.kind}")
        elif is_transformer and site.name != f"transformer_blocks.{site.depth}":
            issues.append(f"{reprlib.repr(site.name)} is not at depth {site.depth}")
        if len(site.shape) != (2 if is_transformer else 3) or not _are_sizes(*site.shape):
            issues.append(f"{reprlib.repr(site.shape)} is no shape of what goes into a block")
    depths = [site.depth for site in base.sites]
    if depths != sorted(set(depths)) or not all(0 <= depth < LARGEST for depth in depths):
        issues.append("the depths of the blocks do not rise")
    if len({site.name for site in base.sites}) != len(base.sites):
        issues.append("a block occurs twice")
    if is_transformer and len({site.shape for site in base.sites}) > 1:
        issues.append("the blocks of a transformer take one shape")
    sizes = (*base.sample_size, base.embedding_width, base.num_train_timesteps or 1)
    if not _are_sizes(*sizes):
        issues.append("sample size, embedding width and timesteps are whole numbers above zero")
    return issues


def _gate_issues(config: BankConfig) -> list[str]:
    issues = []
    is_unet = config.base.kind in UNETS
    if not 0 < config.topk <= 1:
        issues.append(f"a top-k share of {config.topk} is not above 0 and at most 1")
    if not _are_sizes(config.num_prompts):
        issues.append(f"{config.num_prompts} prompts a block cannot be")
    if config.gate is GateKind.TOKEN and config.num_prompts != 1:
        issues.append("a token gate weighs the positions of one whole prompt")
    if (config.gate_grid is not None) != (is_unet and config.gate is GateKind.TOKEN):
        issues.append("a token gate on a UNet has a grid, and no other gate has one")
    if config.gate_grid is not None and not _are_sizes(config.gate_grid):
        issues.append(f"{config.gate_grid} is no side of a grid")
    if config.prepended and (is_unet or not _are_sizes(config.prepended)):
        issues.append("prompts are put before the sequence of a transformer, one or more")
    return issues


def _are_sizes(*numbers: int) -> bool:
    return all(0 < number < LARGEST for number in numbers)
