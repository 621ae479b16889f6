"""The destination of a soup: one file, a folder like the inputs', or standard output.

Rule 1: the output's shape is decided from request and inputs before anything is made.
Rule 2: nothing gets its final name before all of it is on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import PICKLES, STEMS, SUFFIXES, Component
from ..checkpoints.open import STREAM
from ..checkpoints.remote.address import Address, address_of, require_target
from ..errors import LimitError, UsageError
from ..format.header import lay_out
from ..format.shards import MOST_SHARDS, OutputFile, index_name, same_files, split
from ..frozen import frozen
from ..pattern import pattern
from .companion_files import CompanionFiles, companion_files, compared_configs
from .ingredients import ComponentInputs, Inputs
from .plan import Plan

FOREIGN = PICKLES | {".gguf", ".h5", ".npz", ".onnx", ".tar", ".zip"}
"""Lowercase endings of other formats, which the name of an output must not have."""
PICKLED = pattern(r"\.bin(?=$|\.index\.)")
LONE_VARIANT = pattern(rf"^({'|'.join(STEMS)})\.[^.]+\.safetensors$")


@frozen
class ComponentFiles:
    """The files of one component: their names lie within `folder`, relative to the output."""

    folder: str
    files: tuple[OutputFile, ...]
    index: str | None
    """Name of the index, if there is one."""

    def path_of(self, name: str) -> str:
        """The name of one of these files within the output."""
        return str(PurePosixPath(self.folder, name))


@frozen
class Destination:
    """The files that will be written, and where."""

    path: Path | None
    """None for standard output."""
    is_folder: bool
    components: tuple[ComponentFiles, ...]
    """The files of each component, in the order of the inputs' components."""
    companions: CompanionFiles
    """Companion files in the inputs' folders: those that are copied, and those that are not."""
    texts: tuple[str, ...] = ()
    """Further files that are written beside the weights, by their names within the output."""
    address: Address | None = None
    """That of an object on a server; its `path` only names it."""

    @property
    def file(self) -> Path | None:
        """The path of an output on this disk."""
        return self.path if self.address is None else None

    @property
    def locked(self) -> tuple[Path, ...]:
        """The folder on this disk that is locked while the output gets its name, if any."""
        return () if self.file is None else (Path(os.path.realpath(self.file)).parent,)

    @property
    def names(self) -> frozenset[str]:
        """All files of an output that is a folder, by their names within it."""
        made = (
            files.path_of(name)
            for files in self.components
            for name in (*(file.name for file in files.files), files.index)
            if name is not None
        )
        return frozenset((*made, *self.texts, *(name for name, _ in self.companions.copies)))

    def folder_of(self, files: ComponentFiles) -> Path | None:
        """The folder that holds a component's file, or its folder; None if not on this disk."""
        return None if self.file is None else (self.file / files.folder).parent


def destination_for(
    output: str | Path,
    inputs: Inputs,
    plans: Sequence[Plan],
    shard_size: int | None,
    variant: str | None,
    config_from: Path | None = None,
) -> Destination:
    """The destination for `output`; one file if it is named like one or no input is a folder.

    `config_from` is the input folder whose configs are used where they differ.
    Raises UsageError for several components or shards in one file and for the name of another
    format, MismatchError for files beside the weights that say different things, LimitError for too
    many files.
    """
    address = _require_output_name(output)
    if shard_size is not None and shard_size < 1:
        raise UsageError(f"a shard size must be positive, not {shard_size}")
    has_folders = any(model.folder is not None for model in inputs.models)
    if output == STREAM or str(output).endswith(SUFFIXES) or not (has_folders or shard_size):
        _require_one_file(output, inputs, shard_size)
        return _one_file(output, address, inputs, plans[0], config_from)
    _require_folder(output, address, plans)
    components = tuple(
        _component_files(component, plan, shard_size, variant)
        for component, plan in zip(inputs.components, plans, strict=True)
    )
    _require_few_files(components)
    weights = {
        file
        for model in inputs.models
        for component in model.components
        for file in component.files
    }
    folders = [model.folder for model in inputs.models if model.folder is not None]
    companions = companion_files(folders, weights, config_from)
    return Destination(Path(output), True, components, companions)


def _require_output_name(output: str | Path) -> Address | None:
    """The address of an output on a server, None on this disk; UsageError for an unusable name."""
    if not str(output):
        raise UsageError("the output path is empty")
    address = address_of(output)
    if address is not None:
        require_target(address)
    if Path(output).suffix.lower() in FOREIGN:
        raise UsageError(
            f"a {Path(output).suffix} file holds no safetensors",
            path=output,
            advice="name a .safetensors file, or a folder",
        )
    return address


def _one_file(
    output: str | Path,
    address: Address | None,
    inputs: Inputs,
    plan: Plan,
    config_from: Path | None,
) -> Destination:
    """The destination of a soup that is one file, or goes to standard output."""
    # configs are compared although none is copied, so that models of different kinds are not
    # averaged
    configs = compared_configs(
        [
            component.folder
            for model in inputs.models
            if model.folder is not None
            for component in model.components
            if component.folder is not None
        ],
        is_settled=config_from is not None,
    )
    name = "standard output" if output == STREAM else Path(output).name
    files = ComponentFiles("", (OutputFile(name, lay_out(plan.written)),), None)
    path = None if output == STREAM else Path(output)
    return Destination(path, False, (files,), configs, address=address)


def _require_one_file(output: str | Path, inputs: Inputs, shard_size: int | None) -> None:
    """Raise UsageError if the output cannot be a single file."""
    if shard_size:
        raise UsageError("--shard-size makes a folder", path=output, advice="name one with -o")
    if len(inputs.components) > 1:
        raise UsageError(
            f"one file cannot hold {len(inputs.components)} components",
            path=output,
            advice="name a folder with -o, or pick one with --component",
        )
    if str(output).endswith("/"):
        raise UsageError(
            "names a folder, but single files are averaged into a file",
            path=output,
            advice="name a file, or --shard-size makes a folder",
        )


def _require_folder(output: str | Path, address: Address | None, plans: Sequence[Plan]) -> None:
    """Raise UsageError if the output cannot be a folder."""
    if address is not None:
        what = "is one object, and the soup is a folder of files"
        advice = "name a folder on this disk, and upload it"
        raise UsageError(what, path=address.shown, advice=advice)
    if any(plan.marker is not None for plan in plans):
        what = "weights quantised by --quantize fp8-scaled are loaded from single files only"
        raise UsageError(what, path=output, advice="name a .safetensors file with -o")


def _require_few_files(components: Sequence[ComponentFiles]) -> None:
    """Raise LimitError if all components together have more files than may be open at once."""
    count = sum(len(files.files) for files in components)
    if count > MOST_SHARDS:
        raise LimitError(
            f"the components have {count} files in total; at most {MOST_SHARDS} can be written",
            advice="choose a larger --shard-size, or --component picks one of them",
        )


def _component_files(
    component: ComponentInputs, plan: Plan, shard_size: int | None, variant: str | None
) -> ComponentFiles:
    """Files of one component, named like those of its layout, if it has one."""
    layout = component.layout
    if layout is None or shard_size or not plan.kept:
        stem = "model" if layout is None else _stem(layout.component, variant)
        files = split(plan.written, shard_size or 2**63, stem)
    else:
        names = {step.name: _name_in_folder(layout, step.name, variant) for step in plan.kept}
        files = same_files(plan.written, names)
        stem = _stem(layout.component, variant)
    indexed = len(files) > 1 or (layout is not None and not shard_size and layout.component.index)
    return ComponentFiles(component.name, files, index_name(stem) if indexed else None)


def _name_in_folder(layout: Checkpoint, tensor: str, variant: str | None) -> str:
    """The name of the file that holds a tensor, relative to the checkpoint's folder, but plain."""
    # a tensor that the first ingredient lacks goes into the file of its own first ingredient
    known = tensor if tensor in layout.tensors else next(iter(layout.tensors))
    path = layout.file_of(known).path
    folder = layout.component.folder or path.parent
    return path.relative_to(folder).with_name(_plain(path.name, variant)).as_posix()


def _plain(name: str, variant: str | None) -> str:
    """A file's name without its variant, so that libraries load the output by default.

    One of a pickled file becomes that of a safetensors file.
    """
    if PICKLED.search(name):
        name = re.sub("^pytorch_model", "model", PICKLED.sub(".safetensors", name))
    if variant is None:
        # a single file was read
        return LONE_VARIANT.sub(r"\1.safetensors", name)
    # where the libraries write it, including older versions
    after = r"((-\d+-of-\d+)?\.safetensors|(\.index)?\.json)$"
    return re.sub(rf"\.{re.escape(variant)}(?={after})", "", name)


def _stem(component: Component, variant: str | None) -> str:
    """The stem of a component's file names, without its variant."""
    name = _plain(component.index_name or component.files[0].name, variant)
    stem = re.split(r"\.safetensors|\.[^.]*$", name)[0]
    return next((known for known in STEMS if stem.startswith(f"{known}.")), stem)
