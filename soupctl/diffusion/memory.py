"""Whether an error of a library says that there is no memory left."""

from __future__ import annotations

import torch

SYSTEM = "DefaultCPUAllocator: can't allocate memory"
"""PyTorch's message when the system, not a GPU, has no memory left."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU or the system has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and SYSTEM in str(error)
    )
