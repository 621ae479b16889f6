"""What updates the weights, by the name that a person chose."""

from __future__ import annotations

from typing import Any

import torch

from ..choices import Optimizer
from .options import Options


def make_optimizer(parameters: list[Any], options: Options) -> Any:
    """The optimizer of parameters, or of groups of them; see `require_libraries`."""
    if options.optimizer is Optimizer.ADAMW8BIT:
        # a user without it trains with the other one
        import bitsandbytes

        kind = bitsandbytes.optim.AdamW8bit
    else:
        kind = torch.optim.AdamW
    return kind(parameters, lr=options.lr, weight_decay=options.weight_decay)
