"""The embeddings of timesteps and classes that a base computes, without loading the rest of it.

Rule 1: they are computed by the base's own forward pass up to its first block, in which all but the
embedders is on the meta device: it takes little memory, and repeats no formula of a base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.safetensors import open_safetensors
from ..diffusion.base import Base
from ..diffusion.loading import empty_model
from ..errors import InputError
from ..format.dtypes import DType
from .blocks import blocks_of, dummy_inputs
from .config import DITS, JOINT_TRANSFORMERS, UNETS, GateInput
from .files import DTYPES, read_tensor
from .gate_inputs import Inputs, watch_embeddings

OF_DITS = ("transformer_blocks.0.norm1.emb.",)
OF_JOINT_TRANSFORMERS = ("time_text_embed.timestep_embedder.",)
OF_UNETS = ("time_proj.", "time_embedding.", "class_embedding.")
"""Prefixes of the names of an embedder's tensors."""


class _Reached(Exception):
    """Raised at the first block to end a forward pass; carries the embeddings."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs


class Embedders:
    """The embedders of a base on disk; InputError if a tensor is missing or has a wrong shape.

    `told` gives the values that the denoiser gets for timesteps [B].
    """

    def __init__(self, base: Base, size: tuple[int, int], told: Callable[[Tensor], Tensor]) -> None:
        self._model = empty_model(base).eval()
        self._base, self._size, self._told = base, size, told
        starts = _prefixes(base.class_name)
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in self._model.state_dict().items()
            if name.startswith(starts)
        }
        self._model.load_state_dict(_read(base, shapes), strict=False, assign=True)

    def __call__(self, wanted: GateInput, timesteps: Tensor, labels: Tensor) -> Tensor:
        """The embedding [B, D] that is the gate's input for timesteps [B] and classes [B].

        Models without classes ignore `labels`. Captions are not known here, so they must not be
        part of the input.
        """
        if self._base.class_name in JOINT_TRANSFORMERS:
            embedder = self._model.time_text_embed
            with torch.no_grad():
                found: Tensor = embedder.timestep_embedder(
                    embedder.time_proj(self._told(timesteps))
                )
            return found
        name, block = next(iter(blocks_of(self._model).items()))
        embeddings = watch_embeddings(self._model, (wanted,))

        def reach(_block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            raise _Reached(embeddings.at(name, args, kwargs))

        def reach_time(_module: nn.Module, _args: Any, output: Tensor) -> None:
            raise _Reached({GateInput.TIME: output})

        handles = [block.register_forward_pre_hook(reach, with_kwargs=True)]
        if wanted is GateInput.TIME and self._base.class_name in UNETS:
            # before that of a caption is added to it
            handles.append(self._model.time_embedding.register_forward_hook(reach_time))
        inputs = dummy_inputs(self._model, self._size, batch=len(timesteps))
        inputs["timestep"] = timesteps
        if "class_labels" in inputs:
            inputs["class_labels"] = labels
        try:
            with torch.no_grad():
                self._model(**inputs)
        except _Reached as reached:
            return reached.inputs[wanted]
        finally:
            for handle in handles:
                handle.remove()
            embeddings.remove()
        raise AssertionError("the forward pass reached no block")


def _prefixes(kind: str) -> tuple[str, ...]:
    """What the names of the embedder's tensors begin with in a base of that class."""
    if kind in DITS:
        return OF_DITS
    return OF_JOINT_TRANSFORMERS if kind in JOINT_TRANSFORMERS else OF_UNETS


def _read(base: Base, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors with those names and shapes, in float32."""
    found = {}
    kinds = {**DTYPES, DType.F64: torch.float64}
    for path in base.files.weights[base.denoiser].files:
        with open_safetensors(path) as file:
            for each in file.header.tensors:
                if each.name not in shapes:
                    continue
                if each.shape != shapes[each.name] or each.dtype not in kinds:
                    expected = list(shapes[each.name])
                    what = f"is {each.dtype.value} {list(each.shape)}, not float {expected}"
                    raise InputError(what, path=path, tensor=each.name)
                found[each.name] = read_tensor(file, each, kinds[each.dtype]).float()
            file.require_unchanged()
    if missing := sorted(shapes.keys() - found.keys()):
        raise InputError("is missing", path=base.denoiser_folder, tensor=missing[0])
    return found
