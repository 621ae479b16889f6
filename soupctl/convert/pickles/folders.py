"""Folders of pickles: one file or shards with an index, and pipelines of such components.

Rule 1: a component with safetensors weights is read from these, whatever pickles are beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.downloads import require_finished
from ...checkpoints.layout import Component, ModelFiles, find_model
from ...checkpoints.listing import listing_of
from ...checkpoints.open import open_input
from ...checkpoints.preference import INDEX
from ...checkpoints.unchanged import FileSnapshot
from ...errors import InputError
from ...format.index import parse_index
from ...ledger.read import read_ledger
from ...merge.ingredients import ComponentInputs, Inputs
from ...storage.files import read_file
from ...storage.regular import reading
from .tensors import pickled_files

STEMS = ("diffusion_pytorch_model", "pytorch_model")
"""Names of weights files as diffusers and transformers pickled them, without extension."""
PICKLE = ".bin"


def find_pickled(path: Path, component: str | None, variant: str | None) -> ModelFiles | None:
    """The weights files of a folder, not opened, if some of them are pickled; None if none are.

    `component` selects one folder of a pipeline; `variant` prefers files such as
    `pytorch_model.fp16.bin`. Raises InputError for an index that is malformed or lacks files, and
    the errors of `find_model` for other components.
    """
    with reading(str(path)):
        if not path.is_dir():
            return None
        listing, label = listing_of(path), str(path)
        if listing is None or component is not None:
            inside = path if component is None else path / component
            listed = listing is not None and component in listing.names
            if component is not None and not listed:
                return None
            found = _pickled("", inside, variant)
            return None if found is None else ModelFiles(label, (found,), inside)
        pickled = {name: _pickled(name, path / name, variant) for name in listing.names}
    if not any(pickled.values()):
        return None
    every = []
    for name, found in pickled.items():
        if found is not None:
            every.append(found)
        elif _is_model(path / name):
            (other,) = find_model(path, component=name, variant=variant).components
            every.append(replace(other, name=name))
    return ModelFiles(label, tuple(every), path, listing.file)


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and any(_is_safetensors(each.name) for each in folder.iterdir())


def _is_safetensors(name: str) -> bool:
    is_hidden = name.startswith(".")
    return not is_hidden and (name.endswith(".safetensors") or INDEX.search(name) is not None)


def _pickled(name: str, folder: Path, variant: str | None) -> Component | None:
    """The pickled checkpoint in a folder; None if it has none, or safetensors weights."""
    if not folder.is_dir() or _is_model(folder):
        return None
    label = str(folder)
    for part in [f".{variant}", ""] if variant else [""]:
        for stem in STEMS:
            for index in (f"{stem}.bin.index{part}.json", f"{stem}{part}.bin.index.json"):
                if (folder / index).is_file():
                    return _indexed(name, folder, index)
            file = folder / f"{stem}{part}{PICKLE}"
            if file.is_file():
                require_finished([file])
                return Component(name, label, (file,), folder)
    return None


def _indexed(name: str, folder: Path, index_name: str) -> Component:
    path = folder / index_name
    seen = FileSnapshot.take(path)
    index = parse_index(read_file(path), str(path))
    files = tuple(folder / file for file in sorted(set(index.weight_map.values())))
    if not files:
        raise InputError("is an index that lists no tensors", path=path)
    for file in files:
        if not file.exists():
            what = f"is a missing shard, listed in {index_name}"
            raise InputError(what, path=file, advice="download the model again")
    require_finished(files)
    return Component(name, str(folder), files, folder, index, index_name, seen)


@contextmanager
def open_pickles(model: ModelFiles, entry: str | None) -> Iterator[Inputs]:
    """A folder with pickled weights, open; some components of a pipeline may be safetensors.

    Raises the errors of `open_pickle` and of `open_input`.
    """
    with ExitStack() as stack:
        parts = []
        for component in model.components:
            checkpoint = stack.enter_context(_opened(component, entry))
            ledger = None if _is_pickled(component) else read_ledger(checkpoint)
            parts.append(ComponentInputs(component.name, (checkpoint,), (ledger,), checkpoint))
        yield Inputs((model,), tuple(parts))


def _is_pickled(component: Component) -> bool:
    return any(file.suffix == PICKLE for file in component.files)


def _opened(component: Component, entry: str | None) -> Checkpoint:
    if not _is_pickled(component):
        return open_input(component)
    with ExitStack() as stack:
        files = tuple(
            stack.enter_context(file)
            for path in component.files
            for file in pickled_files(path, str(path), entry)
        )
        stack.pop_all()
    return Checkpoint(component, files)
