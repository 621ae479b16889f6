"""Which folders of a model are its components, by the file that lists them.

Rule 1: diffusers lists them in `model_index.json`, sentence-transformers in `modules.json`; any
other folder, such as `checkpoint-500` of a training, is not a component.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..format.index import is_inside
from ..format.strict_json import decode, parse_object
from ..frozen import frozen
from ..storage.files import read_file, read_json
from .unchanged import FileSnapshot

PIPELINE = "model_index.json"
MODULES = "modules.json"
LISTINGS = (PIPELINE, MODULES)
CONFIG = "config.json"
SCHEDULER = "scheduler"
SCHEDULER_CONFIG = "scheduler_config.json"
DENOISERS = ("unet", "transformer")
"""Components of pipelines that may be in the folder of the pipeline itself."""
SEVERAL = "MultiControlNetModel"
"""The class of a component that is several models, the others in folders such as `controlnet_1`."""
OPTIONAL = ("safety_checker",)
"""Optional components of pipelines, on which the others do not depend."""


@frozen
class Listing:
    """The components that a folder lists, by their folders in it; sorted, the folder itself first.

    The name of the folder itself is empty.
    """

    file: FileSnapshot
    names: tuple[str, ...]
    required: tuple[str, ...] = ()
    """The components that a pipeline needs to be loaded."""


def listing_of(folder: Path) -> Listing | None:
    """The components that a folder lists; None if it is not a pipeline.

    Raises InputError for a listing that is malformed or names folders outside.
    """
    for name, read in ((PIPELINE, _pipeline), (MODULES, _modules)):
        if (folder / name).is_file():
            seen = FileSnapshot.take(folder / name)
            names, required = read(seen.path)
            return Listing(seen, tuple(sorted(names)), tuple(sorted(required)))
    return None


def component_at(folder: Path | None) -> str | None:
    """The component of a pipeline that a folder is; None for any other folder, or none."""
    if folder is None:
        return None
    folder = Path(os.path.abspath(folder))
    listing = listing_of(folder.parent)
    return folder.name if listing is not None and folder.name in listing.names else None


def _pipeline(path: Path) -> tuple[Iterable[str], Iterable[str]]:
    content = read_json(path, "pipeline")
    folder = path.parent
    # a key is the name of a direct subfolder, or of none
    listed = {
        name: value
        for name, value in content.items()
        if isinstance(value, list) and "/" not in name
    }
    names = [each for name, value in listed.items() for each in (name, *_more(folder, name, value))]
    required = [name for name in listed if listed[name][1:] != [None] and name not in OPTIONAL]
    # the first diffusers pipelines have the denoiser in the root folder
    is_beside = (folder / CONFIG).is_file() and any(
        name in names and not (folder / name).exists() for name in DENOISERS
    )
    if is_beside:
        # and so is the config of their scheduler
        beside = {*DENOISERS, *([SCHEDULER] if (folder / SCHEDULER_CONFIG).is_file() else ())}
        return [*names, ""], [name for name in required if name not in beside]
    return names, required


def _more(folder: Path, name: str, value: Sequence[Any]) -> Iterator[str]:
    """The folders of the further models of a component that is several, as diffusers names them."""
    if value[1:] == [SEVERAL]:
        every = (f"{name}_{number}" for number in count(1))
        yield from takewhile(lambda each: (folder / each).is_dir(), every)


def _modules(path: Path) -> tuple[Iterable[str], Iterable[str]]:
    try:
        # the strict reader accepts only objects, and this is a list
        modules = parse_object(f'{{"modules":{decode(read_file(path))}}}')["modules"]
    except ValueError as error:
        raise InputError(f"is not a valid list of modules: {error}", path=path) from None
    if not isinstance(modules, list):
        raise InputError("is not a valid list of modules", path=path)
    return {_module_path(module, path) for module in modules}, ()


def _module_path(module: Mapping[str, Any] | object, path: Path) -> str:
    name = module.get("path") if isinstance(module, dict) else None
    if not isinstance(name, str):
        raise InputError("is not a valid list of modules: one has no path", path=path)
    name = name.rstrip("/")
    if name in ("", "."):
        return ""
    if not is_inside(name):
        raise InputError(f"names the module {name!r}, which is not in this folder", path=path)
    return name
