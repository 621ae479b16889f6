"""The output of a conversion: its tensors in the layout that is asked for, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.layout import SUFFIXES
from ..checkpoints.listing import CONFIG
from ..checkpoints.open import STREAM
from ..checkpoints.remote.address import address_of, require_target
from ..choices import Layout
from ..errors import Issue, MismatchError, UsageError
from ..format.header import lay_out
from ..format.shards import OutputFile, index_name, split
from ..frozen import frozen
from ..merge.companion_files import CompanionFiles
from ..merge.destination import FOREIGN, ComponentFiles, Destination, destination_for
from ..merge.ingredients import Inputs
from ..storage.files import read_json
from .configs.pipeline import PipelineFiles, pipeline_files
from .dtypes import OutputComponent, SourceKinds, chosen
from .gguf.output import GgufFile
from .layouts.arrange import (
    ArrangedCheckpoint,
    require_whole_bytes,
    to_diffusers,
    to_original,
)
from .layouts.families import ModelFamily
from .pieces import ArrangedComponent, as_they_are
from .request import ConvertRequest

NO_COMPANIONS = CompanionFiles((), (), ())
OF_TRANSFORMERS = "text_encoder"
"""Start of the names of components that transformers loads."""


@frozen
class LaidOut:
    """The tensors of the output, before dtypes are decided."""

    components: tuple[ArrangedComponent, ...]
    family: ModelFamily | None = None
    """The family of a model whose layout was changed; None for one model, or no change."""
    left_out: tuple[tuple[str, str], ...] = ()


def lay_out_anew(request: ConvertRequest, inputs: Inputs, kinds: SourceKinds) -> LaidOut:
    """The chosen tensors of the input in the layout that is asked for.

    Raises MismatchError for tensors that have no place in it, and UsageError for an input that has
    that layout already.
    """
    contents = chosen(request, kinds)
    names = [component.name for component in inputs.components]
    if request.layout is None:
        return LaidOut(as_they_are(list(zip(names, contents, strict=True))))
    for label, content in zip(kinds.labels, contents, strict=True):
        require_whole_bytes(label, content.values())
    _require_values(request, kinds)
    if request.layout is Layout.DIFFUSERS:
        if len(contents) > 1:
            what = "is a pipeline, whose layout is that of diffusers already"
            raise UsageError(what, path=inputs.models[0].label, advice="leave out --layout")
        found = to_diffusers(kinds.labels[0], contents[0])
    else:
        texts = _activations(inputs)
        own = _component_name(inputs)
        named = [(name or own, content) for name, content in zip(names, contents, strict=True)]
        found = to_original(kinds.labels, named, texts)
    return _laid_out(found)


def _laid_out(found: ArrangedCheckpoint) -> LaidOut:
    return LaidOut(found.components, found.family, found.left_out)


def _component_name(inputs: Inputs) -> str:
    """The component that a folder is; a file may be any."""
    folder = inputs.models[0].components[0].folder
    return "text_encoder" if folder is None else folder.name


def _require_values(request: ConvertRequest, kinds: SourceKinds) -> None:
    """Raise MismatchError for codes that would be copied: they fit their scales in one layout."""
    if request.changes_values:
        return
    issues = [
        Issue(f"is a {kind.text}", label, name, "--dtype BF16 stores values, which are laid out")
        for label, found in zip(kinds.labels, kinds.kinds, strict=True)
        for name, kind in found.items()
        if kind.scale is not None
    ]
    if issues:
        raise MismatchError.collected(issues)


def _activations(inputs: Inputs) -> Mapping[str, str]:
    """The activations of text encoders, as their configs tell them."""
    found: dict[str, str] = {}
    for component in inputs.models[0].components:
        folder = component.folder
        if folder is not None and (folder / CONFIG).is_file():
            config: Mapping[str, Any] = read_json(folder / CONFIG)
            if isinstance(act := config.get("hidden_act"), str):
                found[component.name or folder.name] = act
    return found


def place(
    request: ConvertRequest,
    inputs: Inputs,
    components: Sequence[OutputComponent],
    laid_out: LaidOut,
    gguf: GgufFile | None = None,
) -> tuple[Destination, tuple[tuple[str, bytes], ...]]:
    """Where the output's files go, and the configs beside them; raises the errors of `decide`."""
    plans = [component.plan for component in components]
    is_pipeline = request.layout is Layout.DIFFUSERS and laid_out.family is not None
    if request.config_from is not None and not is_pipeline:
        what = "--config-from gives configs to the pipeline that --layout diffusers makes of a file"
        raise UsageError(what, advice="leave it out")
    address = address_of(request.output)
    if address is not None:
        require_target(address)
    if gguf is not None:
        if address is not None:
            what = "is an address, and GGUF files are written to this disk only"
            advice = "name a file, and upload it"
            raise UsageError(what, path=address.shown, advice=advice)
        return _one_gguf(request, gguf), ()
    if request.layout is None:
        made = destination_for(request.output, inputs, plans, request.shard_size, request.variant)
        return made, ()
    output = str(request.output)
    is_file = output == STREAM or output.endswith(SUFFIXES) or address is not None
    if not output or Path(output).suffix.lower() in FOREIGN:
        what = "names no safetensors file or folder"
        raise UsageError(what, path=output, advice="name a .safetensors file, or a folder")
    if request.layout is Layout.LDM or laid_out.family is None:
        return _one_file(request, components[0], is_file=is_file), ()
    if is_file and len(components) == 1:
        return _one_file(request, components[0], is_file=True), ()
    if is_file:
        what = f"one file cannot hold {len(components)} components"
        raise UsageError(what, path=output, advice="name a folder")
    return _pipeline(request, components, laid_out.family)


def _one_gguf(request: ConvertRequest, gguf: GgufFile) -> Destination:
    if request.shard_size is not None:
        what = "--shard-size makes a folder of safetensors files"
        raise UsageError(what, path=request.output, advice="name a folder with -o")
    path = Path(request.output)
    files = (ComponentFiles("", (gguf.output(path),), None),)
    return Destination(path, False, files, NO_COMPANIONS)


def _one_file(request: ConvertRequest, component: OutputComponent, *, is_file: bool) -> Destination:
    path = None if str(request.output) == STREAM else Path(request.output)
    if request.shard_size is not None:
        if is_file:
            what = "--shard-size makes a folder"
            raise UsageError(what, path=request.output, advice="name one with -o")
        stem = "model" if request.layout is Layout.LDM else "diffusion_pytorch_model"
        files = split(component.plan.written, request.shard_size, stem)
        index = index_name(stem) if len(files) > 1 else None
        return Destination(path, True, (ComponentFiles("", files, index),), NO_COMPANIONS)
    name = "standard output" if path is None else path.name
    file = OutputFile(name, lay_out(component.plan.written))
    address = address_of(request.output)
    every = (ComponentFiles("", (file,), None),)
    return Destination(path, False, every, NO_COMPANIONS, address=address)


def _pipeline(
    request: ConvertRequest, components: Sequence[OutputComponent], family: ModelFamily
) -> tuple[Destination, tuple[tuple[str, bytes], ...]]:
    placed = []
    for component in components:
        of_transformers = component.name.startswith(OF_TRANSFORMERS)
        stem = "model" if of_transformers else "diffusion_pytorch_model"
        files = split(component.plan.written, request.shard_size or 2**63, stem)
        index = index_name(stem) if len(files) > 1 else None
        placed.append(ComponentFiles(component.name, files, index))
    others: PipelineFiles = pipeline_files(request.config_from, family, components)
    companions = CompanionFiles(others.copies, (), others.seen)
    made = Destination(
        Path(request.output),
        True,
        tuple(placed),
        companions,
        tuple(name for name, _ in others.texts),
    )
    return made, others.texts
