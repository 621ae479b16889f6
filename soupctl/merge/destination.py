"""The destination of a soup: one file, a folder like the inputs', or standard output.

Rule 1: the output's shape is decided from request and inputs before anything is made.
Rule 2: nothing gets its final name before all of it is on disk.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from stat import S_ISDIR

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import PICKLES, STEMS, SUFFIXES, Component, ModelFiles
from ..checkpoints.open import STREAM
from ..checkpoints.remote.address import Address, address_of, require_target
from ..errors import LimitError, OutputError, UsageError
from ..format.header import lay_out
from ..format.shards import MOST_SHARDS, OutputFile, TensorSpec, index_name, same_files, split
from ..frozen import frozen
from ..pattern import pattern
from ..storage.elsewhere import elsewhere
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


def decide(
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
    if shard_size is not None and shard_size < 1:
        raise UsageError(f"a shard size must be positive, not {shard_size}")
    folders = [model for model in inputs.models if model.folder is not None]
    if output == STREAM or str(output).endswith(SUFFIXES) or not (folders or shard_size):
        _require_one_file(output, inputs, shard_size)
        # configs are compared although none is copied, so that models of different kinds are not
        # averaged
        configs = compared_configs(
            [each for model in folders for each in _weights_folders(model)],
            is_settled=config_from is not None,
        )
        name = "standard output" if output == STREAM else Path(output).name
        files = ComponentFiles("", (OutputFile(name, lay_out(_entries(plans[0]))),), None)
        path = None if output == STREAM else Path(output)
        return Destination(path, False, (files,), configs, address=address)
    if address is not None:
        what = "is one object, and the soup is a folder of files"
        advice = "name a folder on this disk, and upload it"
        raise UsageError(what, path=address.shown, advice=advice)
    if any(plan.marker is not None for plan in plans):
        what = "weights quantised by --quantize fp8-scaled are loaded from single files only"
        raise UsageError(what, path=output, advice="name a .safetensors file with -o")
    components = tuple(
        _component_files(part, plan, shard_size, variant)
        for part, plan in zip(inputs.parts, plans, strict=True)
    )
    _require_few_files(components)
    weights = {
        file
        for model in inputs.models
        for component in model.components
        for file in component.files
    }
    others = companion_files(
        [model.folder for model in folders if model.folder is not None], weights, config_from
    )
    return Destination(Path(output), True, components, others)


def _require_one_file(output: str | Path, inputs: Inputs, shard_size: int | None) -> None:
    """Raise UsageError if the output cannot be a single file."""
    if shard_size:
        raise UsageError("--shard-size makes a folder", path=output, advice="name one with -o")
    if len(inputs.parts) > 1:
        raise UsageError(
            f"one file cannot hold {len(inputs.parts)} components",
            path=output,
            advice="name a folder with -o, or pick one with --component",
        )
    if str(output).endswith("/"):
        raise UsageError(
            "names a folder, but single files are averaged into a file",
            path=output,
            advice="name a file, or --shard-size makes a folder",
        )


def _require_few_files(components: Sequence[ComponentFiles]) -> None:
    """Raise LimitError if all components together have more files than may be open at once."""
    count = sum(len(files.files) for files in components)
    if count > MOST_SHARDS:
        raise LimitError(
            f"the components have {count} files in total; at most {MOST_SHARDS} can be written",
            advice="choose a larger --shard-size, or --component picks one of them",
        )


def _weights_folders(model: ModelFiles) -> list[Path]:
    """The folders in which the weights themselves lie."""
    return [each.folder for each in model.components if each.folder is not None]


def _entries(plan: Plan) -> list[TensorSpec]:
    return plan.written


def _component_files(
    part: ComponentInputs, plan: Plan, shard_size: int | None, variant: str | None
) -> ComponentFiles:
    """Files of one component, named like those of the part's layout, if it has one."""
    layout = part.layout
    if layout is None or shard_size or not plan.kept:
        stem = "model" if layout is None else _stem(layout.component, variant)
        files = split(_entries(plan), shard_size or 2**63, stem)
    else:
        names = {step.name: _name_in_folder(layout, step.name, variant) for step in plan.kept}
        files = same_files(_entries(plan), names)
        stem = _stem(layout.component, variant)
    indexed = len(files) > 1 or (layout is not None and not shard_size and layout.component.index)
    return ComponentFiles(part.name, files, index_name(stem) if indexed else None)


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


def refuse_input_as_output(
    destination: Destination, inputs: Inputs, replaceable: Collection[Path] = ()
) -> None:
    """Raise OutputError if the output is an input or holds one, whatever links lead to it.

    Files among `replaceable` may be replaced, though not by what a shell redirects into them.
    """
    if destination.address is not None:
        if destination.address.shown in map(_address_of, _input_paths(inputs, ())):
            shown = destination.address.shown
            raise OutputError("is also an input", path=shown, advice="choose another output")
        return
    if destination.path is None:
        found, replaceable = _stat_of_standard_output(), ()
    else:
        found = _stat(destination.path)
    used = {
        (stat.st_dev, stat.st_ino)
        for stat in map(_stat, _input_paths(inputs, replaceable))
        if stat is not None
    }
    if found is not None and (found.st_dev, found.st_ino) in used:
        what = "holds an input" if S_ISDIR(found.st_mode) else "is also an input"
        path = "standard output" if destination.path is None else destination.path
        raise OutputError(what, path=path, advice="choose another output")


def _input_paths(inputs: Inputs, replaceable: Collection[Path]) -> set[Path]:
    """Every file that is read, and every folder around one."""
    places = {
        place
        for part in inputs.parts
        for checkpoint in part.opened
        for file in checkpoint.component.files
        if file not in replaceable
        for place in (file.absolute(), file.resolve())
    }
    return places | {parent for place in places for parent in place.parents}


def _stat_of_standard_output() -> os.stat_result | None:
    try:
        return os.fstat(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        # a Python caller may have closed stdout or replaced it
        return None


def _address_of(path: Path) -> str | None:
    file = elsewhere(path)
    return None if file is None else file.address


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
