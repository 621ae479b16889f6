"""The gate: how strongly each prompt of a block speaks at a timestep, and what keeps it balanced.

Rule 1: rows sum to one, and all but the `kept` largest weights are exactly zero.
Rule 2: nothing is drawn here: noise on the logits is used if, and only if, its draws are given, so
that a gate disturbs nobody's random numbers and a recomputed pass is the same as the first.
Rule 3: what is called `as_coded` follows the released code of Diffusion Model Patching (Ham et al.
2025, arXiv 2405.17825); what is called `over_batch`, Shazeer et al. 2017 (arXiv 1701.06538).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..choices import Balance

LEAST_SPREAD = 0.01
"""Added to the standard deviation of the noise on the logits, as the released code does."""
EPSILON = 1e-10
"""Added to a squared mean before dividing by it, as the released code does."""


class Gated(NamedTuple):
    """What a gate says of one block: all are [B, rows]."""

    weights: Tensor
    clean: Tensor
    """Logits before noise."""
    noisy: Tensor
    """Logits after noise; the clean ones where there is none."""
    spread: Tensor | None
    """Standard deviation of the noise; None where there is none."""
    kept: int


class Gate(nn.Module):
    """One linear map from an embedding and a block's depth to `rows` weights; all zero at first."""

    def __init__(self, rows: int, width: int, kept: int, noisy: bool) -> None:
        super().__init__()
        self.kept = kept
        self.weight = nn.Parameter(torch.zeros(rows, width + 1))
        """[rows, D + 1]; the last column is the depth's."""
        self.bias = nn.Parameter(torch.zeros(rows))
        self.noise = nn.Parameter(torch.zeros(rows, width)) if noisy else None

    def forward(self, embedding: Tensor, depth: int, draws: Tensor | None = None) -> Gated:
        """The weights for embeddings [B, D] at a block of that depth.

        `draws` are standard normal numbers [B, rows], which a gate without a noise table ignores.
        The depth is one plain number, not scaled, as in the released code.
        """
        embedding = embedding.to(self.weight)
        depths = embedding.new_full((len(embedding), 1), depth)
        clean = functional.linear(torch.cat([embedding, depths], dim=1), self.weight, self.bias)
        noisy, spread = clean, None
        if self.noise is not None and draws is not None:
            # Shazeer et al. 2017, equation 4
            spread = functional.softplus(functional.linear(embedding, self.noise)) + LEAST_SPREAD
            noisy = clean + draws.to(clean) * spread
        return Gated(top_softmax(noisy, self.kept), clean, noisy, spread, self.kept)


def top_softmax(logits: Tensor, kept: int) -> Tensor:
    """Softmax over the `kept` largest logits of each row [B, rows], exactly 0 for all others."""
    if kept == logits.shape[1]:
        return logits.softmax(dim=1)
    largest, places = logits.topk(kept, dim=1)
    return torch.zeros_like(logits).scatter(1, places, largest.softmax(dim=1))


def balance_loss(gated: Iterable[Gated], form: Balance) -> Tensor:
    """Importance and load of all blocks of a forward pass, a scalar.

    Blocks whose gates have equally many rows are taken together; of several such groups, as UNets
    have, it is the mean.
    """
    groups: dict[int, list[Gated]] = {}
    for each in gated:
        groups.setdefault(each.weights.shape[1], []).append(each)
    losses = []
    for group in groups.values():
        weights = torch.stack([each.weights for each in group])
        chances = torch.stack([chance_of_being_kept(each) for each in group])
        if form is Balance.AS_CODED:
            losses.append(importance_as_coded(weights) + load_as_coded(chances, group[0].kept))
        else:
            losses.append(unevenness_over_batch(weights) + unevenness_over_batch(chances))
    return torch.stack(losses).mean()


def importance_as_coded(weights: Tensor) -> Tensor:
    """Squared coefficient of variation of weights [blocks, B, rows] summed over the blocks.

    The variance is the unbiased one, over all samples and rows at once; zero for a single number.
    """
    importance = weights.sum(dim=0)
    if importance.numel() == 1:
        return importance.new_zeros(())
    return importance.var() / (importance.mean().square() + EPSILON)


def load_as_coded(chances: Tensor, kept: int) -> Tensor:
    """Chances [blocks, B, rows] summed over rows and samples, in the mean over blocks.

    Some B * kept whatever the gate does, so it balances nothing; zero where all rows are kept.
    """
    if kept == chances.shape[2]:
        return chances.new_zeros(())
    return chances.sum(dim=(1, 2)).mean()


def unevenness_over_batch(values: Tensor) -> Tensor:
    """Squared coefficient of variation over rows, [blocks, B, rows] summed over B; blocks' mean.

    Of weights it is the importance loss (equation 7 of Shazeer et al. 2017), of chances of being
    kept the load loss (equation 11). The variance is that of the rows, which are all there are.
    """
    totals = values.sum(dim=1)
    variance = totals.var(dim=1, correction=0)
    return (variance / (totals.mean(dim=1).square() + EPSILON)).mean()


def chance_of_being_kept(gated: Gated) -> Tensor:
    """Probability that each weight [B, rows] is kept if its own noise alone were drawn anew.

    Equation 9 of Shazeer et al. 2017; one where all are kept. Without noise, 1 for what is kept.
    """
    clean, noisy, spread, kept = gated.clean, gated.noisy, gated.spread, gated.kept
    if kept == clean.shape[1]:
        return torch.ones_like(clean)
    largest = noisy.topk(kept + 1, dim=1).values
    # the kept-th largest among all others
    is_kept = gated.weights > 0
    threshold = torch.where(is_kept, largest[:, kept:], largest[:, kept - 1 : kept])
    if spread is None:
        return is_kept.to(clean)
    return torch.special.ndtr((clean - threshold) / spread)
