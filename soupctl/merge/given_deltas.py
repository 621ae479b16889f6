"""Deltas and adapters as the user named them, opened for each component of the models.

Rule 1: the delta of a pipeline has one for each component, found by its name; a lone delta is for
the only component that has its tensors.
Rule 2: an adapter updates each component that it has modules of, and every module is in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import ModelFiles
from ..checkpoints.open import find_input, open_input
from ..errors import Issue, MismatchError
from ..frozen import frozen
from ..lora.adapter import LEAVE_OUT, Adapter
from ..lora.modules import OTHER_TOOL, is_adapter, kind_of_other_adapter
from .adapter_reader import AdapterReader, BaseComponent, Lacks
from .applied_plan import Delta
from .applied_sources import adapter_of, delta_of
from .delta.reader import DeltaReader
from .facts import facts_of_source
from .kept_sum.reader import Source
from .sources import is_added

PICK = "--component picks one of a pipeline's"


@frozen
class Bases:
    """The components of what deltas are added to: a base, or the first model of a mean."""

    label: str
    sources: tuple[Source, ...]
    names: tuple[str, ...]
    """Folder names within a pipeline."""
    component: str | None = None
    """The only component, if it is one of a pipeline; an adapter's other models are left out."""


@frozen
class GivenDelta:
    """A delta or adapter, open, with what it adds to each component of the models."""

    label: str
    path: Path | None
    """Its file or folder; None for a stream."""
    deltas: tuple[Delta | None, ...]
    """None for a component that it does not change."""
    is_pipeline: bool
    """Whether it is a folder with a delta for each component."""


def open_delta(stack: ExitStack, path: str | Path, bases: Bases) -> GivenDelta:
    """A delta or adapter, open; MismatchError for a model, LedgerError for what is not sound."""
    model = find_input(path)
    if bases.component is not None and len(model.components) > 1:
        model = find_input(path, bases.component)
    opened = [stack.enter_context(open_input(each)) for each in model.components]
    for checkpoint in opened:
        if not is_added(checkpoint):
            raise _not_added(checkpoint)
    is_pipeline = len(bases.sources) > 1 and any(each.name for each in model.components)
    if len(opened) > 1 or is_pipeline:
        deltas = _by_name(model, opened, bases)
    elif len(bases.sources) == 1:
        lacks = Lacks.NONE if bases.component is None else Lacks.OTHERS
        place = BaseComponent(component_name(bases, 0), lacks=lacks)
        deltas = (delta_of(opened[0], bases.sources[0], place),)
    elif is_adapter(opened[0].tensors):
        deltas = _located(opened[0], bases)
    else:
        deltas = _of_one_component(opened[0], bases)
    component = model.components[0]
    place_of = (model.folder or component.path) if component.files else None
    return GivenDelta(model.label, place_of, deltas, is_pipeline)


def _not_added(checkpoint: Checkpoint) -> MismatchError:
    """The error for a model, or an adapter of another kind than those that are applied."""
    kind = kind_of_other_adapter(checkpoint.tensors, facts_of_source(checkpoint))
    if kind is None:
        what = "is a model, not a delta or an adapter"
        advice = "make a delta of it with soupctl delta FINE BASE"
    else:
        what = f"is an adapter ({kind}) of a form that cannot be applied"
        advice = OTHER_TOOL
    return MismatchError(what, path=checkpoint.label, advice=advice)


def component_name(bases: Bases, position: int) -> str:
    """The folder name of a component, also of one that was picked."""
    return bases.names[position] or (bases.component or "")


def _by_name(
    model: ModelFiles, opened: Sequence[Checkpoint], bases: Bases
) -> tuple[Delta | None, ...]:
    """The deltas of a pipeline in the order of the base's components."""
    named = {each.component.name: each for each in opened}
    if unknown := [name for name in named if name not in bases.names]:
        have = ", ".join(filter(None, bases.names)) or "one checkpoint"
        what = f"has a delta of {', '.join(unknown)}, where {bases.label} has {have}"
        raise MismatchError(what, path=model.label, advice=PICK)
    return tuple(
        delta_of(named[name], source) if name in named else None
        for name, source in zip(bases.names, bases.sources, strict=True)
    )


def _of_one_component(delta: Checkpoint, bases: Bases) -> tuple[Delta | None, ...]:
    """A lone delta for the component that has its tensors; MismatchError for none, or several."""
    reader = DeltaReader(delta)
    fitting = [
        name
        for name, source in zip(bases.names, bases.sources, strict=True)
        if _has_tensors(source, reader)
    ]
    if len(fitting) != 1:
        several = f"fits {' and '.join(fitting)}" if fitting else "fits no component"
        what = f"is a delta of one component, and {several} of {bases.label}"
        raise MismatchError(what, path=reader.label, advice=PICK)
    return tuple(reader if name == fitting[0] else None for name in bases.names)


def _has_tensors(source: Source, delta: DeltaReader) -> bool:
    """Whether a model has all tensors that a delta records, in their shapes."""
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    return all(shapes.get(name) == tensor.shape for name, tensor in delta.tensors.items()) and all(
        name in shapes for name in delta.facts.equal
    )


def _located(checkpoint: Checkpoint, bases: Bases) -> tuple[Delta | None, ...]:
    """The updates of an adapter for each component; MismatchError unless every module has one."""
    adapter = adapter_of(checkpoint)
    readers = [
        delta_of(checkpoint, source, BaseComponent(name, is_of_pipeline=True, lacks=Lacks.ANY))
        for name, source in zip(bases.names, bases.sources, strict=True)
    ]
    found = [each for each in readers if isinstance(each, AdapterReader)]
    if issues := list(_unplaced(adapter, found, bases)):
        raise MismatchError.collected(issues)
    return tuple(each if each.placed else None for each in found)


def _unplaced(adapter: Adapter, found: Sequence[AdapterReader], bases: Bases) -> Iterator[Issue]:
    """The issues of modules that are in no component, or in several."""
    advice: str | None = LEAVE_OUT
    for scaled in adapter.modules:
        name = scaled.module.name
        holders = [own for own, each in zip(bases.names, found, strict=True) if name in each.placed]
        if not holders:
            yield adapter.unplaced(name, bases.label, advice)
            advice = None
        elif len(holders) > 1:
            what = f"matches layers of {' and '.join(holders)} in {bases.label}"
            yield Issue(what, adapter.label, name, PICK)
