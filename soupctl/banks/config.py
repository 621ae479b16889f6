"""The config of a prompt bank as a value: its base, its prompts and its gate.

Rule 1: a `BankConfig` determines a bank's forward pass, and the name and shape of each tensor.
Rule 2: every `BankConfig` is valid; its constructor raises UsageError otherwise.
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

DITS = ("DiTTransformer2DModel",)
"""Classes of bases whose blocks compute the embedding of the timestep themselves."""
JOINT_TRANSFORMERS = ("SD3Transformer2DModel", "FluxTransformer2DModel")
"""Classes of bases whose blocks take the tokens of an image and of its caption apart."""
TRANSFORMERS = DITS + JOINT_TRANSFORMERS
"""Classes of bases whose blocks have inputs [N, D]: N tokens of an image."""
UNETS = ("UNet2DConditionModel", "UNet2DModel")
"""Classes of bases whose blocks have inputs [C, H, W]."""

GATE_GRID = 16
"""Default side of the grid of weights for the positions of a UNet's block."""

TRANSFORMER_BLOCK = re.compile(r"transformer_blocks\.(0|[1-9][0-9]{0,4})")
FLUX_BLOCK = re.compile(r"(single_)?transformer_blocks\.(0|[1-9][0-9]{0,4})")
UNET_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(0|[1-9][0-9]{0,4})|mid_block")
LARGEST = 1 << 31


class GateKind(StrEnum):
    """The prompts that a gate gives weights to."""

    TOKEN = "token"  # noqa: S105
    """A weight for each position: a block has one prompt of as many rows."""
    MIXTURE = "mixture"
    """A weight for each of several whole prompts of a block."""


class GateInput(StrEnum):
    """The embedding that a gate gets as input, besides the depth of the block."""

    TIME = "time"
    """The base's embedding of the timestep."""
    TIME_AND_CLASS = "time+class"
    """The vector that conditions the base's blocks: of the timestep and, for example, the class."""
    NONE = "none"
    """No embedding: a block has the same weights at all times."""


@dataclass(frozen=True, slots=True)
class Site:
    """A block of a base, by name, and the shape of its input."""

    name: str
    depth: int
    """The number of blocks before it in the base; an input of the gate."""
    shape: tuple[int, ...]
    """Without the batch: [N, D] in a transformer, [C, H, W] in a UNet."""


@dataclass(frozen=True, slots=True)
class BaseDescription:
    """The base of a bank; values that are None are unknown, and are not compared."""

    kind: str
    """The class of the denoiser in diffusers."""
    sites: tuple[Site, ...]
    """Blocks in the order of the forward pass: all of a base; in a bank, those with prompts."""
    sample_size: tuple[int, int]
    """Height and width of the latents, or pixels, for which the blocks have these shapes."""
    embedding_width: int
    """The number of features D of the timestep embedding."""
    config_digest: str | None = None
    num_train_timesteps: int | None = None
    prediction_type: str | None = None
    digest: str | None = None
    """Content digest of the denoiser's weights."""
    name: str = ""
    """A name for people; never compared."""


@dataclass(frozen=True, slots=True)
class BankConfig:
    """A prompt bank without its tensors; UsageError for an invalid combination."""

    base: BaseDescription
    gate: GateKind = GateKind.TOKEN
    gate_input: GateInput = GateInput.TIME
    topk: float = 1.0
    """The share of a gate's weights that is kept for each sample: the largest ones."""
    num_prompts: int = 1
    """Prompts of each block: K with a `mixture` gate, 1 with a `token` gate."""
    gate_grid: int | None = None
    """The most rows and columns of weights for a UNet's positions; None without a grid."""
    noisy: bool = False
    """Whether the gate has the noise table that training can use (Shazeer et al. 2017, eq. 4)."""
    prepended: int = 0
    """Prompts put before a DiT's sequence; 0 if they are added to the block's input."""

    def __post_init__(self) -> None:
        """Refuse an invalid config, with all issues in one error."""
        if issues := [*_base_issues(self.base), *_gate_issues(self)]:
            raise UsageError.collected(Issue(issue) for issue in issues)
        few = [rows for rows in self.gates if self.kept(rows) < 1]
        if few:
            raise UsageError(f"top-k share {self.topk} keeps none of {few[0]} weights")

    @property
    def is_transformer(self) -> bool:
        """Whether the inputs of the base's blocks are [N, D], not [C, H, W]."""
        return self.base.kind in TRANSFORMERS

    @property
    def embedding(self) -> GateInput:
        """The embedding that a gate is given; one without input uses only its batch and width."""
        return GateInput.TIME if self.gate_input is GateInput.NONE else self.gate_input

    @property
    def gates(self) -> tuple[int, ...]:
        """The number of weights of each gate, sorted; blocks with the same number share a gate."""
        return tuple(sorted({self.rows(site) for site in self.base.sites}))

    def rows(self, site: Site) -> int:
        """The number of weights that the gate has for a block."""
        if self.gate is GateKind.MIXTURE:
            return self.num_prompts
        return prod(self.grid(site)) if self.gate_grid else self.prepended or site.shape[0]

    def grid(self, site: Site) -> tuple[int, int]:
        """Rows and columns of the weights for a UNet block, at most those of its positions."""
        assert self.gate_grid is not None
        _, height, width = site.shape
        return min(self.gate_grid, height), min(self.gate_grid, width)

    def kept(self, rows: int) -> int:
        """The number of a gate's weights that top-k keeps: their share as written, rounded down."""
        return int(Fraction(str(self.topk)) * rows)

    def prompt_shape(self, site: Site) -> tuple[int, ...]:
        """The shape of a block's prompts: that of its input, or [K, *that] for a mixture."""
        one = (self.prepended, site.shape[1]) if self.prepended else site.shape
        return (self.num_prompts, *one) if self.gate is GateKind.MIXTURE else one

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each tensor of the bank's file, by name."""
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
        """The number of parameters that sampling uses: prompts and gates, without noise tables."""
        return sum(prod(shape) for name, shape in self.tensors.items() if not is_noise(name))


def is_noise(name: str) -> bool:
    """Whether the tensor of that name is a noise table, which only training uses."""
    return name.startswith("gate.") and name.endswith(".noise")


def _base_issues(base: BaseDescription) -> list[str]:
    if base.kind not in TRANSFORMERS + UNETS:
        known = ", ".join(TRANSFORMERS + UNETS)
        return [f"prompt banks do not support {reprlib.repr(base.kind)}; supported are {known}"]
    is_transformer = base.kind in TRANSFORMERS
    pattern = _block_pattern(base.kind)
    issues = [] if base.sites else ["it has no blocks"]
    for site in base.sites:
        if not pattern.fullmatch(site.name):
            issues.append(f"a {base.kind} has no block {reprlib.repr(site.name)}")
        elif is_transformer and not _is_at_its_depth(site):
            issues.append(f"{reprlib.repr(site.name)} is not at depth {site.depth}")
        if len(site.shape) != (2 if is_transformer else 3) or not _are_sizes(*site.shape):
            issues.append(f"the input of a block cannot have shape {reprlib.repr(site.shape)}")
    depths = [site.depth for site in base.sites]
    if depths != sorted(set(depths)) or not all(0 <= depth < LARGEST for depth in depths):
        issues.append("the depths of the blocks must increase")
    if len({site.name for site in base.sites}) != len(base.sites):
        issues.append("a block occurs twice")
    if is_transformer and len({site.shape for site in base.sites}) > 1:
        issues.append("all blocks of a transformer must have the same shape")
    sizes = (*base.sample_size, base.embedding_width, base.num_train_timesteps or 1)
    if not _are_sizes(*sizes):
        issues.append("sample size, embedding width and number of timesteps must be positive")
    return issues


def _block_pattern(kind: str) -> re.Pattern[str]:
    """What the names of the blocks of a base of that class match."""
    if kind in UNETS:
        return UNET_BLOCK
    return FLUX_BLOCK if kind == "FluxTransformer2DModel" else TRANSFORMER_BLOCK


def _is_at_its_depth(site: Site) -> bool:
    """Whether the number in a block's name fits its depth; single blocks of Flux come last."""
    name, _, number = site.name.rpartition(".")
    return int(number) == site.depth or (
        name == "single_transformer_blocks" and int(number) < site.depth
    )


def _gate_issues(config: BankConfig) -> list[str]:
    issues = []
    is_unet = config.base.kind in UNETS
    if not 0 < config.topk <= 1:
        issues.append(f"top-k share {config.topk} must be above 0 and at most 1")
    if not _are_sizes(config.num_prompts):
        issues.append(f"a block cannot have {config.num_prompts} prompts")
    if config.gate is GateKind.TOKEN and config.num_prompts != 1:
        issues.append("a token gate needs exactly one prompt")
    if (config.gate_grid is not None) != (is_unet and config.gate is GateKind.TOKEN):
        issues.append("only a token gate on a UNet has a grid, and it must have one")
    if config.gate_grid is not None and not _are_sizes(config.gate_grid):
        issues.append(f"a grid cannot have side {config.gate_grid}")
    if config.prepended and (config.base.kind not in DITS or not _are_sizes(config.prepended)):
        issues.append("only the sequence of a DiT can have prompts before it, one or more")
    return issues


def _are_sizes(*numbers: int) -> bool:
    return all(0 < number < LARGEST for number in numbers)
