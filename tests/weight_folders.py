"""Folders of weights as tests find them: their tensors, or why they are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from making import save_shards

from soupctl.checkpoints.checkpoint import open_checkpoint
from soupctl.checkpoints.layout import find_model
from soupctl.errors import SoupError

INDEX = "model.safetensors.index.json"
W = np.zeros(3, np.float16)


def tensors(path: Path, **options: str) -> dict[str, list[str]]:
    """Names of the tensors in each component."""
    found = {}
    for component in find_model(path, **options).components:
        with open_checkpoint(component) as checkpoint:
            found[component.name] = sorted(checkpoint.tensors)
    return found


def refusal(path: Path, **options: str) -> SoupError:
    with pytest.raises(SoupError) as caught:
        tensors(path, **options)
    return caught.value


def spoil(folder: Path, **weight_map: str) -> None:
    path = folder / INDEX
    content = json.loads(path.read_text())
    content["weight_map"] |= weight_map
    path.write_text(json.dumps(content))


def odd(folder: Path, value: float, **weight_map: str) -> Path:
    """Two shards whose index also lists `weight_map`."""
    save_shards(folder, "model", {"b": W + value}, {"a": W + value})
    spoil(folder, **weight_map)
    return folder
