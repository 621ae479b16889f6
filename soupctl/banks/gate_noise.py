"""The draws that make a noisy gate noisy, each a function of the seed, the visit and the block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..diffusion import rng
from .bank import Draws
from .config import BankConfig


def gate_draws(config: BankConfig, seed: int, visits: Sequence[int]) -> Draws:
    """Standard normal numbers [B, rows] by block, a row for each visit of a sample.

    A visit gets the same numbers in whatever batch, process or run it is made.
    """
    found = {}
    for site in config.base.sites:
        shape = (config.rows(site),)
        rows = [rng.normal(shape, seed, "gate", visit, site.depth) for visit in visits]
        found[site.name] = torch.from_numpy(np.stack(rows))
    return found
