"""Weighted prompts, interpolated for images of another size than the bank was trained for.

Rule 1: the weighted prompts are resized, not prompts and gates. Weights over positions sum to one,
so more positions make each smaller; resized gates would need a correction that is right only for
equal weights, and blocks could no longer share a gate. Weighted prompts keep their strength.
Rule 2: at the size that a bank was trained for, no bit changes.
"""

from __future__ import annotations

from math import isqrt

from torch import Tensor
from torch.nn import functional


def resized(added: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Weighted prompts [B, N, D] or [B, C, H, W], interpolated linearly to [B, *shape].

    Tokens are those of a square image, since banks support no transformer for other images.
    """
    if tuple(added.shape[1:]) == shape:
        return added
    if len(shape) == 3:
        return _interpolated(added, (shape[1], shape[2]))
    old, new = isqrt(added.shape[1]), isqrt(shape[0])
    maps = added.transpose(1, 2).unflatten(2, (old, old))
    return _interpolated(maps, (new, new)).flatten(2).transpose(1, 2)


def _interpolated(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
