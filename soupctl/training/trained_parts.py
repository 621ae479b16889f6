"""The trained tensors of a run by component, with the names that they have in the base's files.

Rule 1: a component that is trained has the tensors of the base's files, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping

import safetensors
import torch

from ..checkpoints.safetensors import read_header
from ..diffusion.base import Base
from ..errors import LimitError

PREFIX = "text_model."
"""What transformers leaves out of the names of a text encoder that is loaded."""
DENOISER, TEXTS = "denoiser.", "texts."
"""Prefixes of the tensors of a denoiser that is trained with its text encoders."""


def trained_parts(
    base: Base, tensors: Mapping[str, torch.Tensor]
) -> dict[str, Mapping[str, torch.Tensor]]:
    """The trained tensors by folder of the component; LimitError for names unknown to the base."""
    found: dict[str, Mapping[str, torch.Tensor]] = {base.denoiser: _within(tensors, DENOISER)}
    if not any(name.startswith(TEXTS) for name in tensors):
        return {base.denoiser: tensors}
    for part in base.texts:
        own = _within(tensors, f"{TEXTS}{part.encoder}.")
        if own:
            found[part.encoder] = _named_as_stored(base, part.encoder, own)
    return found


def _within(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _named_as_stored(
    base: Base, component: str, tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors of a text encoder by their names in the base's files, and the others there."""
    files = base.files.weights[component].files
    stored = {each.name for file in files for each in read_header(file).tensors}
    names = {name: name if name in stored else f"{PREFIX}{name}" for name in tensors}
    if unknown := [name for name in names.values() if name not in stored]:
        what = "cannot be trained: its tensors have other names than in its class"
        raise LimitError(what, path=base.folder / component, tensor=unknown[0])
    found = {names[name]: tensor for name, tensor in tensors.items()}
    for file in files:
        with safetensors.safe_open(file, "pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys() - found.keys()}
    return found
