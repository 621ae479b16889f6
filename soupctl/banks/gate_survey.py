"""A survey of a bank's gates: the weights in use, their change with time, and their strength.

Rule 1: gates are evaluated as in sampling: without noise, with top-k and the weight in the stack.
Rule 2: a gate that sees classes is evaluated for several classes, and the means are reported.
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
"""The most timesteps and classes that are evaluated."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockSurvey:
    """The survey of one block; T is the number of evaluated timesteps."""

    site: Site
    weights: Tensor
    """The gate's weights [T, rows], averaged over classes."""
    entropy: Tensor
    """Entropy of the weights in nats, [T], averaged over classes; log(rows) if all are equal."""
    strength: Tensor
    """Root mean square of the weighted prompts, [T], over all their elements."""

    @property
    def change(self) -> Tensor:
        """Total variation distance of the weights from their mean over the timesteps, [T].

        It is the share of the weights that moves: 0 if the gate ignores the timestep, at most 1.
        """
        return (self.weights - self.weights.mean(dim=0)).abs().sum(dim=1) / 2

    @property
    def in_use(self) -> Tensor:
        """The effective number of weights, exp(entropy), from 1 to the number of rows; [T]."""
        return self.entropy.exp()


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The survey of one bank."""

    name: str
    """The bank's name in its stack; empty for a single bank."""
    config: BankConfig
    scale: float
    timesteps: tuple[int, ...]
    """Evenly spaced, from the first to the last of the base."""
    classes: tuple[int, ...]
    """The classes that were averaged over; none if the gate does not see classes."""
    of_classes: int
    """The number of classes of the base, without the null class."""
    blocks: tuple[BlockSurvey, ...]


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """A summary of a block's survey."""

    block: str
    rows: int
    in_use: float
    """A mean over the timesteps, like `change` and `strength`."""
    change: float
    strength: float
    entropy_at: Mapping[int, float]
    """By timestep, at a few of them, like `strength_at`."""
    strength_at: Mapping[int, float]


def survey(member: Member, embedders: Embedders, timesteps: int, classes: int) -> Survey:
    """The survey of a bank on a base with so many timesteps, and classes (0 for none)."""
    times = evenly_spaced(timesteps, MOST_TIMESTEPS)
    sees_classes = member.bank.config.gate_input is GateInput.TIME_AND_CLASS and classes > 0
    chosen = evenly_spaced(classes, MOST_CLASSES) if sees_classes else ()
    wanted = member.bank.config.embedding
    embeddings = [
        embedders(wanted, torch.tensor(times), torch.full((len(times),), label))
        for label in chosen or (0,)
    ]
    blocks = tuple(_block(member, site, embeddings) for site in member.bank.sites.values())
    return Survey(member.name, member.bank.config, member.scale, times, chosen, classes, blocks)


def summarise(found: Survey, few: int) -> tuple[BlockSummary, ...]:
    """A summary of each block, with `few` timesteps listed."""
    chosen = evenly_spaced(len(found.timesteps), few)

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


def evenly_spaced(count: int, most: int) -> tuple[int, ...]:
    """At most `most` evenly spaced indices below `count`, including the first and the last."""
    if count <= most:
        return tuple(range(count))
    return tuple(round(index * (count - 1) / (most - 1)) for index in range(most))


@torch.no_grad()
def _block(member: Member, site: Site, embeddings: list[Tensor]) -> BlockSurvey:
    """The survey of one block, averaged over embeddings [T, D], one for each class."""
    weights = torch.stack(
        [member.bank.gate_output(site.name, each).weights.double() for each in embeddings]
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
    """The mean square of the weighted prompts, [T], as a function of the weights [T, rows].

    It is a quadratic form in the weights, so the weighted prompts need not be computed.
    """
    config = bank.config
    prompts = bank.tensors()[f"prompts.{site.name}"].double()
    if config.gate is GateKind.MIXTURE:
        flat = prompts.flatten(1)
        form = flat @ flat.T / flat.shape[1]
        # rounding can make a zero slightly negative
        return lambda weights: torch.einsum("tk,kl,tl->t", weights, form, weights).clamp(min=0)
    if config.gate_grid is None:
        squares = prompts.square().sum(dim=1)
    else:
        squares = _by_cell(prompts.square().sum(dim=0), config.grid(site))
    return lambda weights: weights.square() @ squares / prod(prompts.shape)


def _by_cell(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of positions [H, W], summed over the positions of each cell of the grid, [cells]."""
    numbers = torch.arange(prod(grid), dtype=values.dtype).reshape(1, 1, *grid)
    cells = functional.interpolate(numbers, size=tuple(values.shape), mode="nearest").long()
    return values.new_zeros(prod(grid)).index_add(0, cells.flatten(), values.flatten())
