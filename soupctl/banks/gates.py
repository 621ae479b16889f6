"""The gate: the weight of each prompt of a block at a timestep, and the losses that balance it.

Rule 1: the weights of a sample sum to one, and all but the `kept` largest are exactly zero.
Rule 2: nothing here is random: noise is added to the logits only if it is given, so a gate does not
advance a random generator, and a recomputed pass equals the first.
Rule 3: functions named `as_coded` follow the released code of Diffusion Model Patching (Ham et al.
2025, arXiv 2405.17825); those named `over_batch` follow Shazeer et al. 2017 (arXiv 1701.06538).
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


class GateOutput(NamedTuple):
    """The output of a gate for one block; tensors are [B, rows]."""

    weights: Tensor
    clean: Tensor
    """Logits before noise."""
    noisy: Tensor
    """Logits after noise; equal to `clean` without noise."""
    spread: Tensor | None
    """Standard deviation of the noise; None without noise."""
    kept: int
    """The number of weights that top-k keeps."""


class Gate(nn.Module):
    """A linear map from an embedding [D] and a block's depth to `rows` logits, initially zero."""

    def __init__(self, rows: int, width: int, kept: int, noisy: bool) -> None:
        super().__init__()
        self.kept = kept
        self.weight = nn.Parameter(torch.zeros(rows, width + 1))
        """[rows, D + 1]; the last column is for the depth."""
        self.bias = nn.Parameter(torch.zeros(rows))
        self.noise = nn.Parameter(torch.zeros(rows, width)) if noisy else None

    def forward(self, embedding: Tensor, depth: int, normal: Tensor | None = None) -> GateOutput:
        """The weights for embeddings [B, D] at a block of that depth.

        `normal` is standard normal noise [B, rows]; a gate without a noise table ignores it.
        The depth is one number, not scaled, as in the released code.
        """
        embedding = embedding.to(self.weight)
        depths = embedding.new_full((len(embedding), 1), depth)
        clean = functional.linear(torch.cat([embedding, depths], dim=1), self.weight, self.bias)
        noisy, spread = clean, None
        if self.noise is not None and normal is not None:
            # Shazeer et al. 2017, equation 4
            spread = functional.softplus(functional.linear(embedding, self.noise)) + LEAST_SPREAD
            noisy = clean + normal.to(clean) * spread
        return GateOutput(top_k_softmax(noisy, self.kept), clean, noisy, spread, self.kept)


def top_k_softmax(logits: Tensor, kept: int) -> Tensor:
    """Softmax over the `kept` largest logits of each sample [B, rows]; exactly 0 for the others."""
    if kept == logits.shape[1]:
        return logits.softmax(dim=1)
    largest, places = logits.topk(kept, dim=1)
    return torch.zeros_like(logits).scatter(1, places, largest.softmax(dim=1))


def balance_loss(outputs: Iterable[GateOutput], form: Balance) -> Tensor:
    """The sum of importance and load losses of all blocks of a forward pass, a scalar.

    Blocks whose gates have the same number of rows form a group; the loss is the mean over groups,
    of which UNets have several.
    """
    groups: dict[int, list[GateOutput]] = {}
    for each in outputs:
        groups.setdefault(each.weights.shape[1], []).append(each)
    losses = []
    for group in groups.values():
        weights = torch.stack([each.weights for each in group])
        probabilities = torch.stack([probability_kept(each) for each in group])
        if form is Balance.AS_CODED:
            losses.append(
                importance_as_coded(weights) + load_as_coded(probabilities, group[0].kept)
            )
        else:
            losses.append(imbalance_over_batch(weights) + imbalance_over_batch(probabilities))
    return torch.stack(losses).mean()


def importance_as_coded(weights: Tensor) -> Tensor:
    """Squared coefficient of variation of the sum over blocks of weights [blocks, B, rows].

    The variance is the unbiased one over all samples and rows together; 0 for a single number.
    """
    importance = weights.sum(dim=0)
    if importance.numel() == 1:
        return importance.new_zeros(())
    return importance.var() / (importance.mean().square() + EPSILON)


def load_as_coded(probabilities: Tensor, kept: int) -> Tensor:
    """Probabilities [blocks, B, rows] summed over rows and samples, and averaged over blocks.

    It is about B * kept whatever the gate does, so it balances nothing; 0 if all rows are kept.
    """
    if kept == probabilities.shape[2]:
        return probabilities.new_zeros(())
    return probabilities.sum(dim=(1, 2)).mean()


def imbalance_over_batch(values: Tensor) -> Tensor:
    """Squared coefficient of variation of [blocks, B, rows] summed over B; mean over blocks.

    For weights it is the importance loss (equation 7 of Shazeer et al. 2017), for probabilities of
    being kept the load loss (equation 11). The variance is that of a population.
    """
    totals = values.sum(dim=1)
    variance = totals.var(dim=1, correction=0)
    return (variance / (totals.mean(dim=1).square() + EPSILON)).mean()


def probability_kept(output: GateOutput) -> Tensor:
    """The probability [B, rows] that each weight is kept if only its own noise is sampled again.

    Equation 9 of Shazeer et al. 2017. It is 1 if all are kept; without noise, 1 for those kept.
    """
    clean, noisy, spread, kept = output.clean, output.noisy, output.spread, output.kept
    if kept == clean.shape[1]:
        return torch.ones_like(clean)
    largest = noisy.topk(kept + 1, dim=1).values
    # the largest of the other logits that such a weight must exceed to be kept
    is_kept = output.weights > 0
    threshold = torch.where(is_kept, largest[:, kept:], largest[:, kept - 1 : kept])
    if spread is None:
        return is_kept.to(clean)
    return torch.special.ndtr((clean - threshold) / spread)
