"""The embeddings that gates get as input, taken from a base's own forward pass.

Rule 1: in a transformer they follow from each block's own arguments, because gradient
checkpointing calls a block again, possibly after another pass; they are computed once a pass, as
long as the arguments are the same tensors.
Rule 2: no gradient passes through them, neither into the base nor out of the gate.
Rule 3: nothing here is random: labels are dropped where the batch is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from .blocks import blocks_of, uncompiled
from .config import DITS, JOINT_TRANSFORMERS, GateInput

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments, as a hook gets them."""


class Parameter:
    """A parameter of a module's forward pass, whether it is passed by position or by keyword."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self._name = name
        # the wrapper of a compiled block accepts any arguments
        parameters = inspect.signature(uncompiled(module).forward).parameters
        self._position = list(parameters).index(name)

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Its argument; None if it was not passed."""
        if self._name in kwargs:
            return kwargs[self._name]
        return args[self._position] if self._position < len(args) else None

    def replaced(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], argument: Tensor
    ) -> Arguments:
        """All arguments, with another one for this parameter; the given ones are not modified."""
        if self._name in kwargs:
            return args, {**kwargs, self._name: argument}
        position = self._position
        return (*args[:position], argument, *args[position + 1 :]), dict(kwargs)


class Embeddings(Protocol):
    """Where the embeddings of a base's forward pass come from."""

    def at(self, block: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
        """The embeddings [B, D] for a block that is called with these arguments."""

    def last(self) -> Inputs:
        """The embeddings of the last forward pass; ValueError if there was none."""

    def remove(self) -> None:
        """Remove the hooks."""


Inputs = Mapping[GateInput, Tensor]


def watch_embeddings(model: Any, wanted: tuple[GateInput, ...]) -> Embeddings:
    """The embeddings `wanted` of each forward pass of a base, from now until they are removed."""
    if type(model).__name__ in DITS:
        return _DiTEmbeddings(model, wanted)
    if type(model).__name__ in JOINT_TRANSFORMERS:
        return _JointEmbeddings(model)
    return _UNetEmbeddings(model, wanted)


class _DiTEmbeddings:
    """Embeddings from the embedder of the first block; the others have copies of it."""

    def __init__(self, model: Any, wanted: tuple[GateInput, ...]) -> None:
        self._wanted = wanted
        self._embedder = model.transformer_blocks[0].norm1.emb
        self._by_block = {
            name: (Parameter(block, "timestep"), Parameter(block, "class_labels"))
            for name, block in blocks_of(model).items()
        }
        self._of_model = (Parameter(model, "timestep"), Parameter(model, "class_labels"))
        self._seen: tuple[Tensor, Tensor] | None = None
        self._kept: tuple[Tensor, Tensor, Inputs] | None = None
        self._handle = model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, _model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        timestep, labels = self._of_model
        self._seen = (timestep.of(args, kwargs), labels.of(args, kwargs))
        self._kept = None

    def at(self, block: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
        timestep, labels = (each.of(args, kwargs) for each in self._by_block[block])
        if torch.compiler.is_compiling():
            # a compiler removes repeated computations by itself
            return self._embedded(timestep, labels)
        if self._kept is None or self._kept[0] is not timestep or self._kept[1] is not labels:
            self._kept = (timestep, labels, self._embedded(timestep, labels))
        return self._kept[2]

    def last(self) -> Inputs:
        if self._seen is None:
            raise ValueError("no forward pass has been seen")
        return self._embedded(*self._seen)

    def _embedded(self, timestep: Tensor, labels: Tensor) -> Inputs:
        embedder = self._embedder
        dtype = embedder.timestep_embedder.linear_1.weight.dtype
        with torch.no_grad():
            time = embedder.timestep_embedder(embedder.time_proj(timestep).to(dtype))
            found = {GateInput.TIME: time}
            if GateInput.TIME_AND_CLASS in self._wanted:
                # the table itself, because its module drops labels at random in training mode
                found[GateInput.TIME_AND_CLASS] = time + embedder.class_embedder.embedding_table(
                    labels
                )
        return found

    def remove(self) -> None:
        self._seen = self._kept = None
        self._handle.remove()


class _JointEmbeddings:
    """Embeddings that SD3 or Flux computes once a pass, found by what its blocks are given."""

    def __init__(self, model: Any) -> None:
        self._by_block = {
            name: Parameter(block, "temb") for name, block in blocks_of(model).items()
        }
        self._last: dict[GateInput, Tensor] = {}
        self._passes: Any = WeakTensorKeyDictionary()
        embedder = model.time_text_embed
        self._handles = [
            embedder.timestep_embedder.register_forward_hook(self._see_time),
            embedder.register_forward_hook(self._see_whole),
        ]

    def _see_time(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        self._last = {GateInput.TIME: output.detach()}

    def _see_whole(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        self._last[GateInput.TIME_AND_CLASS] = output.detach()
        if not torch.compiler.is_compiling():
            self._passes[output] = self._last

    def at(self, block: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
        if torch.compiler.is_compiling():
            return self._last
        found: Inputs = self._passes[self._by_block[block].of(args, kwargs)]
        return found

    def last(self) -> Inputs:
        if not self._last:
            raise ValueError("no forward pass has been seen")
        return self._last

    def remove(self) -> None:
        self._last = {}
        self._passes.clear()
        for handle in self._handles:
            handle.remove()


class _UNetEmbeddings:
    """Embeddings that the model itself computes, once a pass; a UNet calls no block twice."""

    def __init__(self, model: Any, wanted: tuple[GateInput, ...]) -> None:
        self._by_block = {
            name: Parameter(block, "temb") for name, block in blocks_of(model).items()
        }
        self._seen: dict[GateInput, Tensor] = {}
        self._handles = []
        if GateInput.TIME in wanted:
            self._handles.append(model.time_embedding.register_forward_hook(self._see_time))

    def _see_time(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        self._seen[GateInput.TIME] = output.detach()

    def at(self, block: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
        seen = self._by_block[block].of(args, kwargs)
        # the same tensor if possible, since weights are cached by its identity
        self._seen[GateInput.TIME_AND_CLASS] = seen.detach() if seen.requires_grad else seen
        return self._seen

    def last(self) -> Inputs:
        if not self._seen:
            raise ValueError("no forward pass has been seen")
        return self._seen

    def remove(self) -> None:
        self._seen.clear()
        for handle in self._handles:
            handle.remove()
