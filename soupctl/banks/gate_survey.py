"""What the gates of a bank say at every timestep: how evenly, how changeably and how strongly.

Rule 1: a survey is of what sampling does: gates without noise, top-k and a stack's weight included.
Rule 2: a gate that sees classes is surveyed on several of them, and the mean over these is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from .bank import PromptBank
from .config import BankConfig, GateInput, GateKind, Site
from .embedders import Embedders
from .stack import Member

MOST_TIMESTEPS = 160
MOST_CLASSES = 32
"""More of either tell a person no more."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockSurvey:
    """What a bank does before one block; T is the number of surveyed timesteps."""

    site: Site
    weights: Tensor
    """Of the gate, [T, rows], the mean over classes."""
    entropy: Tensor
    """Of the weights, in nats, [T], the mean over classes; log(rows) where all are equal."""
    strength: Tensor
    """Root mean square of what is added to the block's input, [T], over all its numbers."""

    @property
    def change(self) -> Tensor:
        """What part of the weights, [T], lies elsewhere than in the mean over the timesteps.

        The total variation distance: 0 where the gate does not look at the time, less than 1.
        """
        return (self.weights - self.weights.mean(dim=0)).abs().sum(dim=1) / 2

    @property
    def in_use(self) -> Tensor:
        """The effective number of weights, exp(entropy), from 1 to the number of rows; [T]."""
        return self.entropy.exp()


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What one bank's gates say."""

    name: str
    """Of the bank in its stack; empty for a bank alone."""
    config: BankConfig
    scale: float
    timesteps: tuple[int, ...]
    """From the first to the last of the base's, evenly."""
    classes: tuple[int, ...]
    """Those that the mean is over; none where the gate does not see them."""
    of_classes: int
    """How many the base has, without the empty one."""
    blocks: tuple[BlockSurvey, ...]


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """A block's survey in a few numbers."""

    block: str
    rows: int
    in_use: float
    """These three are means over the timesteps."""
    change: float
    strength: float
    entropy_at: Mapping[int, float]
    """By timestep, at a few of them, as is the next."""
    strength_at: Mapping[int, float]


def survey(member: Member, embedders: Embedders, timesteps: int, classes: int) -> Survey:
    """The survey of a bank on a base of so many timesteps and classes; none for 0 classes."""
    times = evenly(timesteps, MOST_TIMESTEPS)
    sees_classes = member.bank.config.gate_input is GateInput.TIME_AND_CLASS and classes > 0
    chosen = evenly(classes, MOST_CLASSES) if sees_classes else ()
    wanted = member.bank.config.gate_input
    embeddings = [
        embedders(wanted, torch.tensor(times), torch.full((len(times),), label))
        for label in chosen or (0,)
    ]
    blocks = tuple(_block(member, site, embeddings) for site in member.bank.sites.values())
    return Survey(member.name, member.bank.config, member.scale, times, chosen, classes, blocks)


def summarise(found: Survey, few: int) -> tuple[BlockSummary, ...]:
    """A survey in numbers, with those of so many timesteps."""
    chosen = evenly(len(found.timesteps), few)

    def at(values: Tensor) -> dict[int, float]:
        return {found.timesteps[index]: float(values[index]) for index in chosen}

    return tuple(
        BlockSummary(
            each.site.name,
            each.weights.shape[1],
            float(each.in_use.mean()),
            float(each.change.mean()),
            float(each.strength.mean()),
            at(each.entropy),
            at(each.strength),
        )
        for each in found.blocks
    )


def evenly(count: int, most: int) -> tuple[int, ...]:
    """At most so many of the numbers below `count`, the first and the last among them."""
    if count <= most:
        return tuple(range(count))
    return tuple(round(index * (count - 1) / (most - 1)) for index in range(most))


@torch.no_grad()
def _block(member: Member, site: Site, embeddings: list[Tensor]) -> BlockSurvey:
    """The survey of one block, the mean over embeddings [T, D], one for each class."""
    weights = torch.stack(
        [member.bank.gated(site.name, each).weights.double() for each in embeddings]
    )
    energy = _energy(member.bank, site)
    strength = torch.stack([energy(each).sqrt() for each in weights]).mean(dim=0)
    return BlockSurvey(
        site,
        weights.mean(dim=0),
        torch.special.entr(weights).sum(dim=2).mean(dim=0),
        abs(member.scale) * strength,
    )


def _energy(bank: PromptBank, site: Site) -> Callable[[Tensor], Tensor]:
    """The mean square of what is added to a block's input, [T], as a function of weights [T, rows].

    It is a quadratic form in the weights, so that what is added need not be computed itself.
    """
    config = bank.config
    prompts = bank.tensors()[f"prompts.{site.name}"].double()
    if config.gate is GateKind.MIXTURE:
        flat = prompts.flatten(1)
        form = flat @ flat.T / flat.shape[1]
        # rounding can make a sum of squares that is zero a little less
        return lambda weights: torch.einsum("tk,kl,tl->t", weights, form, weights).clamp(min=0)
    if config.gate_grid is None:
        squares = prompts.square().sum(dim=1)
    else:
        squares = _by_cell(prompts.square().sum(dim=0), config.grid(site))
    return lambda weights: weights.square() @ squares / prod(prompts.shape)


def _by_cell(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of positions [H, W], summed over the positions that each cell of a grid weighs."""
    numbers = torch.arange(prod(grid), dtype=values.dtype).reshape(1, 1, *grid)
    cells = functional.interpolate(numbers, size=tuple(values.shape), mode="nearest").long()
    return values.new_zeros(prod(grid)).index_add(0, cells.flatten(), values.flatten())
