"""Finding the weights of a model: a file, shards with an index, a component or a pipeline.

Rule 1: files are found by the names that the libraries write, older ones included; of two sets of
weights in a folder, the one that its library reads is read, or else the user must choose.
Rule 2: only safetensors files are weights.
Rule 3: only `model_index.json` and `modules.json` name components; hidden files are not seen, such
as those that macOS writes beside others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, MismatchError, as_shown
from ..format.index import Index, parse_index
from ..frozen import frozen
from ..pattern import pattern
from ..storage.files import read_file
from ..storage.regular import reading
from .config_files import is_weights
from .downloads import require_finished
from .hub import is_repository, snapshot_of
from .listing import CONFIG, LISTINGS, PIPELINE, listing_of
from .preference import INDEX, preferred
from .remote.address import Address, address_of
from .unchanged import FileSnapshot

SUFFIXES = (".safetensors", ".st", ".sft")
"""Endings of the names of safetensors files."""

STEMS = ("diffusion_pytorch_model", "model", "adapter_model", "pytorch_lora_weights")
"""Names of weights files as diffusers, transformers and PEFT write them, without extension."""

SHARD = pattern(r"-\d+-of-(\d+)\.")
"""Part of the name of a shard; the group is the number of shards."""
NO_INDEX = "download their index too"

PICKLES = frozenset((".bin", ".pt", ".pth", ".ckpt", ".pkl"))


@frozen
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
    passed_over: tuple[str, ...] = ()
    """The other single files and indexes of its folder, which its library does not read."""

    @property
    def path(self) -> Path:
        """The folder, or the single file."""
        return self.folder or self.files[0]


@frozen
class ModelFiles:
    """The weights files of one input, not opened: a checkpoint, or the components of a pipeline."""

    label: str
    components: tuple[Component, ...]
    folder: Path | None = None
    """The input's folder; None if it is a file."""
    pipeline_index: FileSnapshot | None = None
    """The `model_index.json` of a pipeline."""
    absent: tuple[str, ...] = ()
    """Components that a pipeline lists, and whose folders are not there."""


def find_model(
    path: str | Path, *, component: str | None = None, variant: str | None = None
) -> ModelFiles:
    """The weights files at `path`, not opened.

    `component` selects one folder of a pipeline; `variant` prefers files such as
    `model.fp16.safetensors`, and falls back to the plain ones. Raises InputError if there are no
    weights, only pickles, or several sets of weights; MismatchError for a missing component.
    """
    if (address := address_of(path)) is not None:
        return _find_elsewhere(address, component, variant)
    with reading(str(path)):
        path = snapshot_of(Path(path))
        if path.is_dir():
            return _finished(_find_in_folder(path, component, variant))
    label = str(path)
    if path.name in (*LISTINGS, CONFIG):
        raise InputError(
            "is not a weights file", path=label, advice=f"give its folder, {path.parent}"
        )
    if INDEX.search(path.name):
        indexed = _indexed("", path.parent, path.name, label)
        return _finished(ModelFiles(label, (indexed,), path.parent))
    return _finished(ModelFiles(label, (Component("", label, (path,)),)))


def _find_elsewhere(address: Address, component: str | None, variant: str | None) -> ModelFiles:
    """The weights files at an address, which messages call by that."""
    # imported late, because most models are on disk
    from .remote.mirror import mirrored  # noqa: PLC0415

    model = find_model(mirrored(address), component=component, variant=variant)
    named = tuple(replace(each, label=as_shown(each.label)) for each in model.components)
    return replace(model, label=as_shown(model.label), components=named)


def _finished(model: ModelFiles) -> ModelFiles:
    """The model itself; InputError if a file of it is still being downloaded."""
    with reading(model.label):
        require_finished(file for component in model.components for file in component.files)
    return model


def _find_in_folder(folder: Path, component: str | None, variant: str | None) -> ModelFiles:
    label = str(folder)
    listing = listing_of(folder)
    if listing is None:
        return ModelFiles(label, (_component("", folder, variant, label),), folder)
    names = [name for name in listing.names if _is_component(folder / name)]
    if component is not None:
        if component not in names:
            listed = ", ".join(name or "." for name in names)
            have = f"it has {listed}" if names else "it has none with weights"
            raise MismatchError(f"has no component {component!r}", path=label, advice=have)
        inside = folder / component
        return ModelFiles(
            label, (_component("", inside, variant, str(inside)),), inside, listing.file
        )
    if not names:
        raise InputError("is a pipeline without weights in any component", path=label)
    found = tuple(_one_of(name, folder, names, variant) for name in names)
    absent = tuple(name for name in listing.required if not (folder / name).exists())
    return ModelFiles(label, found, folder, listing.file, absent)


def _is_component(folder: Path) -> bool:
    """Whether a listed folder exists and has weights, pickled ones included."""
    if not folder.is_dir():
        return False
    suffixes = {".safetensors", *PICKLES}
    return any(Path(name).suffix in suffixes or INDEX.search(name) for name in _entries(folder))


def _one_of(name: str, folder: Path, names: Sequence[str], variant: str | None) -> Component:
    """One component of several; if it has only pickles, the error names components that do not."""
    try:
        return _component(name, folder / name, variant, str(folder / name))
    except InputError as error:
        others = [each for each in names if each and each != name and _has_weights(folder / each)]
        if not others or _has_weights(folder / name):
            raise
        (issue,) = error.issues
        way = " or ".join(f"--component {each}" for each in others)
        advice = f"{issue.advice}; or take the other components one by one: {way}"
        raise InputError(issue.what, path=issue.path, advice=advice) from None


def _entries(folder: Path) -> set[str]:
    """The names in a folder, hidden ones left out."""
    return {each.name for each in folder.iterdir() if not each.name.startswith(".")}


def _has_weights(folder: Path) -> bool:
    """Whether a folder has safetensors weights of its own."""
    return any(name.endswith(".safetensors") or INDEX.search(name) for name in _entries(folder))


def _component(name: str, folder: Path, variant: str | None, label: str) -> Component:
    """The checkpoint in a folder that is not a pipeline."""
    present = _entries(folder)
    for marked in [variant, None] if variant else [None]:
        found = _candidates(present, marked)
        if len(found) == 2 and INDEX.search(found[1]):
            indexed = _indexed(name, folder, found[1], label)
            # an index of one file is another name for that file
            if indexed.files == (folder / found[0],):
                return indexed
        if found:
            return _preferred(name, folder, found, label)
    others = sorted(each for each in present if each.lower().endswith(SUFFIXES))
    indexes = [each for each in present if INDEX.search(each)]
    if len(indexes) == 1:
        indexed = _indexed(name, folder, indexes[0], label)
        if {folder / other for other in others} <= set(indexed.files):
            return indexed
    elif len(others) == 1 and not _is_one_of_several(others[0]):
        return Component(name, label, (folder / others[0],), folder)
    raise _no_weights(folder, present, others, label)


def _preferred(name: str, folder: Path, found: list[str], label: str) -> Component:
    """The checkpoint of one of the sets of weights found in a folder."""
    chosen = preferred(found, folder)
    if chosen is None:
        raise InputError(
            f"holds more than one set of weights: {', '.join(found)}",
            path=label,
            advice="name one of them",
        )
    if INDEX.search(chosen):
        component = _indexed(name, folder, chosen, label)
    else:
        component = Component(name, label, (folder / chosen,), folder)
    return replace(component, passed_over=tuple(each for each in found if each != chosen))


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


def _is_one_of_several(name: str) -> bool:
    """Whether a file is named as one shard of several."""
    found = SHARD.search(name)
    return found is not None and int(found[1]) > 1


def _no_weights(folder: Path, present: set[str], others: list[str], label: str) -> InputError:
    if len(others) == 1:
        return InputError(
            f"holds only one shard of several ({others[0]})",
            path=label,
            advice="download the others and their index, or name the file to average it alone",
        )
    if others:
        listed = ", ".join(others[:3])
        # a single shard is not a complete model
        are_shards = any(map(SHARD.search, others))
        return InputError(
            f"holds {len(others)} safetensors files and no index of all of them ({listed} ...)",
            path=label,
            advice=NO_INDEX if are_shards else "name one file, or a variant with --variant",
        )
    # for example a training run with the model in a subfolder, or Wan with two of them
    inside = [folder / name for name in sorted(present) if _is_model(folder / name)]
    if len(inside) > 1:
        listed = ", ".join(each.name for each in inside)
        return InputError(
            f"holds several models ({listed}) and no model_index.json",
            path=label,
            advice=f"give them one by one, such as {inside[0]}",
        )
    pickles = sorted(name for name in present if Path(name).suffix in PICKLES)
    if pickles and not inside:
        return InputError(
            f"holds only pickled weights ({pickles[0]}), which can run code when they are opened",
            path=label,
            advice="convert them to safetensors first",
        )
    if inside:
        return InputError("holds no safetensors weights", path=label, advice=f"{inside[0]} does")
    if foreign := sorted(filter(is_weights, present)):
        what = f"holds weights in another format only ({foreign[0]})"
        return InputError(what, path=label, advice="convert them to safetensors first")
    advice = "name the folder or file that does"
    return InputError("holds no safetensors weights", path=label, advice=advice)


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and (
        (folder / PIPELINE).is_file() or _has_weights(folder) or is_repository(folder)
    )


def _indexed(name: str, folder: Path, index_name: str, label: str) -> Component:
    path = folder / index_name
    seen = FileSnapshot.take(path)
    index = parse_index(read_file(path), str(path))
    if not index.weight_map:
        raise InputError("is an index that lists no tensors", path=path)
    files = tuple(folder / file for file in sorted(set(index.weight_map.values())))
    if missing := [file for file in files if not file.exists()]:
        more = f", the first of {len(missing)}" if len(missing) > 1 else ""
        raise InputError(
            f"is a missing shard, listed in {index_name}{more}",
            path=missing[0],
            advice="download the model again",
        )
    return Component(name, label, files, folder, index, index_name, seen)
