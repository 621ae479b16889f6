"""Reads what the metadata and the configs beside a checkpoint say of its tensors."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..errors import SoupError
from ..kinds.facts import NO_FACTS, TensorFacts, facts_of
from ..storage.files import read_file
from .kept_sum.reader import AlignedCheckpoint, Source, SumReader

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
OWN_NAMES = ("model.", "adapter_model.", "diffusion_pytorch_model.")
"""What the names of weights begin with whose config lies in the same folder."""


def facts_of_source(source: Source) -> TensorFacts:
    """The facts of a checkpoint; none of a kept sum, whose tensors are no codes."""
    if isinstance(source, SumReader):
        return NO_FACTS
    if isinstance(source, AlignedCheckpoint):
        return facts_of_source(source.checkpoint)
    folder = _folder(source)
    configs = [None if folder is None else _text(folder / name) for name in (CONFIG, ADAPTER)]
    return facts_of(source.metadata, *configs)


def _folder(checkpoint: Checkpoint) -> Path | None:
    """The folder whose configs are those of a checkpoint; None for a file of any other name."""
    component = checkpoint.component
    if component.folder is not None or not component.files:
        return component.folder
    (file, *_) = component.files
    return file.parent if file.name.startswith(OWN_NAMES) else None


def _text(path: Path) -> bytes | None:
    """The bytes of a config; None if there is none that can be read, which is refused elsewhere."""
    try:
        return read_file(path) if path.is_file() else None
    except (OSError, SoupError):
        return None
