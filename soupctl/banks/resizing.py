"""What a bank adds to a block, fitted to images of another size than it was trained for.

Rule 1: neither prompts nor gates are resized, but what both make together. Weights that sum to one
over positions become smaller as the positions become more, so that resized gates would need
resized strengths, right for even weights alone; and blocks that share a gate could not go on doing
so. What is added keeps its size whatever the gate says.
Rule 2: at the size that a bank was trained for, no bit changes.
"""

from __future__ import annotations

from math import isqrt

from torch import Tensor
from torch.nn import functional


def resized(added: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What is added, [B, N, D] or [B, C, H, W], interpolated linearly to [B, *shape].

    Tokens are those of a square image: transformers that take others are refused before.
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
