"""The usual script that averages checkpoints, as its users write it: `usual_script.py OUT IN...`.

Rule 1: it gets what is fair: one tensor at a time, float32 sums, the ingredients' own dtype out.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def average(paths: list[str], out: str) -> None:
    """Write the uniform average of the checkpoints `paths` to `out`."""
    averaged: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        models = [stack.enter_context(safe_open(path, framework="pt")) for path in paths]
        for name in models[0].keys():  # noqa: SIM118 - a handle is not iterable
            tensors = [model.get_tensor(name) for model in models]
            total = sum(tensor.to(torch.float32) for tensor in tensors)
            averaged[name] = (total / len(tensors)).to(tensors[0].dtype)
    save_file(averaged, out, metadata={"format": "pt"})


if __name__ == "__main__":
    average(sys.argv[2:], sys.argv[1])
