"""Facts about a checkpoint's tensors, read from its metadata and the configs beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..errors import SoupError, UnreadableError
from ..format.dtypes import DType
from ..kinds.facts import NO_FACTS, TensorFacts, facts_of, layer_format
from ..storage.files import read_file
from ..storage.regular import reading
from .adapter_reader import AdapterReader
from .delta.reader import DeltaReader
from .kept_sum.reader import AlignedCheckpoint, Source, SumReader

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
SETTINGS = "comfy_quant"
"""Last part of the name of a tensor that holds the settings of a quantised layer as JSON."""
LONGEST_SETTINGS = 1 << 16
OWN_NAMES = ("model.", "adapter_model.", "diffusion_pytorch_model.")
"""Prefixes of the names of weights files whose config is in the same folder."""


def facts_of_source(source: Source) -> TensorFacts:
    """The facts of a checkpoint; empty for a kept sum or a delta, which hold no codes."""
    if isinstance(source, SumReader | DeltaReader | AdapterReader):
        return NO_FACTS
    if isinstance(source, AlignedCheckpoint):
        return _renamed(facts_of_source(source.checkpoint), source)
    configs = [_config_beside(source, name) for name in (CONFIG, ADAPTER)]
    facts = facts_of(source.metadata, *configs)
    return replace(facts, layers=(*facts.layers, *_layers(source)), absent=source.absent)


def adapter_config(checkpoint: Checkpoint) -> bytes | None:
    """The bytes of the `adapter_config.json` beside a checkpoint; None if it has none."""
    return _config_beside(checkpoint, ADAPTER)


def has_unread_config(checkpoint: Checkpoint) -> bool:
    """Whether the `adapter_config.json` beside a local file is that of a file of another name."""
    component = checkpoint.component
    if _folder(checkpoint) is not None or not component.files:
        return False
    folder = component.files[0].parent
    return type(folder) is type(Path()) and (folder / ADAPTER).is_file()


def _config_beside(checkpoint: Checkpoint, name: str) -> bytes | None:
    folder = _folder(checkpoint)
    return None if folder is None else _text(folder / name)


def _layers(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """Name and format of each layer that has a tensor with its settings."""
    for name, tensor in checkpoint.tensors.items():
        layer, _, last = name.rpartition(".")
        if last == SETTINGS and tensor.dtype is DType.U8 and tensor.size <= LONGEST_SETTINGS:
            said = layer_format(bytes(checkpoint.stored(name).read()))
            if said is not None:
                yield layer, said


def _renamed(facts: TensorFacts, source: AlignedCheckpoint) -> TensorFacts:
    """The same facts under the names that a soup gives the layers."""
    if not facts.layers:
        return facts
    names = {
        tensor.name.rpartition(".")[0]: name.rpartition(".")[0]
        for name, tensor in source.tensors.items()
    }
    layers = tuple((names.get(layer, layer), said) for layer, said in facts.layers)
    return replace(facts, layers=layers)


def _folder(checkpoint: Checkpoint) -> Path | None:
    """The folder with the configs of a checkpoint; None for a file of any other name."""
    component = checkpoint.component
    if component.folder is not None or not component.files:
        return component.folder
    (file, *_) = component.files
    return file.parent if file.name.startswith(OWN_NAMES) else None


def _text(path: Path) -> bytes | None:
    """The bytes of a config; None if it cannot be read, which is refused elsewhere."""
    try:
        with reading(str(path)):
            is_there = path.is_file()
        return read_file(path) if is_there else None
    except UnreadableError:
        # unknown: a config of this kind could change the meaning of tensors
        raise
    except SoupError:
        return None
