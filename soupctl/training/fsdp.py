"""Tensors that processes hold in parts, as FSDP has them: made whole, and shared out again.

Rule 1: every process calls, in the same order, and what is in no parts is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import accelerate
import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from .deepspeed import is_deepspeed, stage


def is_fsdp(accelerator: Any) -> bool:
    """Whether FSDP shares out weights and optimizer."""
    return bool(accelerator.distributed_type == accelerate.DistributedType.FSDP)


def in_parts(accelerator: Any) -> bool:
    """Whether each process holds a part of every weight."""
    return is_fsdp(accelerator) or (is_deepspeed(accelerator) and stage(accelerator) == 3)


def whole_weights(model: Any, accelerator: Any) -> Mapping[str, torch.Tensor]:
    """The weights of a wrapped model: its own ones, or for the main process what they make up."""
    if in_parts(accelerator) and is_deepspeed(accelerator):
        return accelerator.get_state_dict(model) or {}
    return gathered(accelerator.unwrap_model(model).state_dict(), accelerator)


def whole(tensor: torch.Tensor, accelerator: Any) -> torch.Tensor:
    """A tensor, put together from the parts of all processes."""
    if not isinstance(tensor, DTensor):
        return tensor
    # what is offloaded waits on the CPU, where the processes may have no words with each other
    return tensor.detach().to(accelerator.device).full_tensor()


def gathered(tensors: Mapping[str, torch.Tensor], accelerator: Any) -> dict[str, torch.Tensor]:
    """The tensors, put together on the CPU of the main process; the others keep nothing of it."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor, accelerator)
        if not isinstance(tensor, DTensor):
            found[name] = tensor
        elif accelerator.is_main_process:
            found[name] = full.cpu()
    return found


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor."""
    if isinstance(tensor, DTensor):
        return tensor.detach().to_local()
    # where DeepSpeed has parts, the tensor itself is empty
    return getattr(tensor, "ds_tensor", tensor)


def shared_out(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, in parts if the one `like` which it is going to be is."""
    if not isinstance(like, DTensor):
        return tensor
    mesh = like.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, like.placements).to(like.device)
