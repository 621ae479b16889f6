"""Finding the weights of a model: a file, shards with an index, a component or a pipeline.

Rule 1: files are found by the names that the libraries write, older ones included; if a folder has
two sets of weights, the user must choose.
Rule 2: only safetensors files are weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, MismatchError
from ..format.index import Index, parse_index
from ..storage.files import read_file, read_json
from ..storage.regular import reading
from .unchanged import FileSnapshot

PIPELINE = "model_index.json"

STEMS = ("diffusion_pytorch_model", "model", "adapter_model", "pytorch_lora_weights")
"""Names of weights files as diffusers, transformers and PEFT write them, without extension."""

# the variant stands behind `index`, or before it as diffusers wrote it until 2024
INDEX = re.compile(r"\.safetensors\.(.+\.)?index\.(.+\.)?json$")

PICKLES = frozenset((".bin", ".pt", ".pth", ".ckpt", ".pkl"))


@dataclass(frozen=True, slots=True)
class Component:
    """One checkpoint on disk: its weights files, and their folder if the input is one."""

    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    label: str
    """The name in messages."""
    files: tuple[Path, ...]
    folder: Path | None = None
    index: Index | None = None
    index_name: str | None = None
    index_file: FileSnapshot | None = None

    @property
    def path(self) -> Path:
        """The folder, or the single file."""
        return self.folder or self.files[0]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The weights files of one input, not opened: a checkpoint, or the components of a pipeline."""

    label: str
    components: tuple[Component, ...]
    folder: Path | None = None
    """The input's folder; None if it is a file."""
    pipeline_index: FileSnapshot | None = None
    """The `model_index.json` of a pipeline."""


def find_model(
    path: Path, *, component: str | None = None, variant: str | None = None
) -> ModelFiles:
    """The weights files at `path`, not opened.

    `component` selects one folder of a pipeline; `variant` prefers files such as
    `model.fp16.safetensors`, and falls back to the plain ones. Raises InputError if there are no
    weights, only pickles, or several sets of weights; MismatchError for a missing component.
    """
    label = str(path)
    with reading(label):
        if path.is_dir():
            return _find_in_folder(path, component, variant)
    if INDEX.search(path.name):
        return ModelFiles(label, (_indexed("", path.parent, path.name, label),), path.parent)
    return ModelFiles(label, (Component("", label, (path,)),))


def _find_in_folder(folder: Path, component: str | None, variant: str | None) -> ModelFiles:
    label = str(folder)
    if not (folder / PIPELINE).is_file():
        return ModelFiles(label, (_component("", folder, variant, label),), folder)
    pipeline_index = FileSnapshot.take(folder / PIPELINE)
    named = _named_components(pipeline_index.path)
    names = [
        each.name
        for each in folder.iterdir()
        if each.is_dir() and _has_weights(each, each.name in named)
    ]
    if component is not None:
        if component not in names:
            have = f"it has {', '.join(sorted(names))}" if names else "it has none with weights"
            raise MismatchError(f"has no component {component!r}", path=label, advice=have)
        inside = folder / component
        return ModelFiles(
            label, (_component("", inside, variant, str(inside)),), inside, pipeline_index
        )
    if not names:
        raise InputError("is a pipeline without weights in any component", path=label)
    found = tuple(
        _component(name, folder / name, variant, str(folder / name)) for name in sorted(names)
    )
    return ModelFiles(label, found, folder, pipeline_index)


def _named_components(path: Path) -> frozenset[str]:
    """The folders that `model_index.json` names; InputError if it is malformed."""
    content = read_json(path, "pipeline")
    return frozenset(name for name, value in content.items() if isinstance(value, list))


def _has_weights(folder: Path, is_named: bool) -> bool:
    """Whether a folder of a pipeline is a component with weights.

    Pickles count only where the pipeline names the folder: training leaves others beside it, such
    as `checkpoint-500` with the state of its optimizer.
    """
    suffixes = {".safetensors"} | (PICKLES if is_named else set())
    return any(each.suffix in suffixes or INDEX.search(each.name) for each in folder.iterdir())


def _component(name: str, folder: Path, variant: str | None, label: str) -> Component:
    """The checkpoint in a folder that is not a pipeline."""
    present = {each.name for each in folder.iterdir()}
    for marked in [variant, None] if variant else [None]:
        found = _candidates(present, marked)
        if len(found) > 1:
            raise InputError(
                f"holds more than one set of weights: {', '.join(found)}",
                path=label,
                advice="name one of them",
            )
        if found:
            if INDEX.search(found[0]):
                return _indexed(name, folder, found[0], label)
            return Component(name, label, (folder / found[0],), folder)
    others = sorted(each for each in present if each.endswith((".safetensors", ".st", ".sft")))
    indexes = [each for each in present if INDEX.search(each)]
    if len(indexes) == 1:
        indexed = _indexed(name, folder, indexes[0], label)
        if {folder / other for other in others} <= set(indexed.files):
            return indexed
    elif len(others) == 1:
        return Component(name, label, (folder / others[0],), folder)
    raise _no_weights(folder, present, others, label)


def _candidates(present: set[str], variant: str | None) -> list[str]:
    """The weights, single or indexed, that the libraries would look for under this variant."""
    endings: tuple[str, ...] = (".safetensors", ".safetensors.index.json")
    if variant is not None:
        endings = (
            f".{variant}.safetensors",
            f".safetensors.index.{variant}.json",
            f".safetensors.{variant}.index.json",
        )
    names = [stem + ending for stem in STEMS for ending in endings]
    return [name for name in names if name in present]


def _no_weights(folder: Path, present: set[str], others: list[str], label: str) -> InputError:
    if others:
        listed = ", ".join(others[:3])
        return InputError(
            f"holds {len(others)} safetensors files and no index of all of them ({listed} ...)",
            path=label,
            advice="name one file, or a variant with --variant",
        )
    pickles = sorted(name for name in present if Path(name).suffix in PICKLES)
    if pickles:
        return InputError(
            f"holds only pickled weights ({pickles[0]}), which can run code when they are opened",
            path=label,
            advice="convert them to safetensors first",
        )
    # a run of training, say, has its model in a folder of its own
    inside = [each for each in sorted(folder.iterdir()) if each.is_dir() and _is_model(each)]
    advice = f"{inside[0]} does" if inside else None
    return InputError("holds no safetensors weights", path=label, advice=advice)


def _is_model(folder: Path) -> bool:
    return (folder / PIPELINE).is_file() or _has_weights(folder, is_named=False)


def _indexed(name: str, folder: Path, index_name: str, label: str) -> Component:
    path = folder / index_name
    seen = FileSnapshot.take(path)
    index = parse_index(read_file(path), str(path))
    if not index.weight_map:
        raise InputError("is an index that lists no tensors", path=path)
    files = tuple(folder / file for file in sorted(set(index.weight_map.values())))
    return Component(name, label, files, folder, index, index_name, seen)
