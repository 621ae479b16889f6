"""Pinned inputs: a pass that refuses inputs of another content than the recipe or lock names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...errors import Issue, LedgerError, UsageError, shortened
from ...ledger.ledger import Ledger
from ..job import ComponentJob, Job
from ..order import Outcome
from .stage import Stage


def pinned(job: Job, stage: Stage, places: Sequence[Mapping[str, int]]) -> Job:
    """The job, which refuses inputs of another content than they are pinned to.

    `places` are those of the inputs among the sources of each component. Raises UsageError for a
    digest in the recipe that is of no component that is read, and LedgerError for one that the
    lock lacks.
    """
    every = list(zip(job.components, places, strict=True))
    for component, its in every:
        for name, place in its.items():
            _require_pins(stage, name, _component_of(component, place))
    components = tuple(
        _holding(component, number, stage, its) for number, (component, its) in enumerate(every)
    )
    return replace(job, components=components)


def _component_of(component: ComponentJob, place: int) -> str:
    """The component that a source is of a pipeline; empty for a lone checkpoint."""
    return component.inputs.opened[place].component.name


def _require_pins(stage: Stage, name: str, component: str) -> None:
    """Raise UsageError for an input with digests, but none of a component that is read.

    LedgerError if the lock lacks it.
    """
    document = stage.document
    lacks, advice = "has digests of components, and is read as one model", 'digest = "blake3:..."'
    if component:
        lacks = f"has no digest of {component}"
        advice = f'digest = {{ {component} = "blake3:..." }}'
    label, digests = f"input {shortened(name)!r}", document.inputs[name].digests
    if digests and component not in digests:
        raise UsageError(f"{label} {lacks}", path=document.label, advice=advice)
    if component not in stage.pins.get(name, {component: ""}):
        what = f"the lock of {label} {lacks}"
        raise LedgerError(
            what, path=document.label, advice="delete the lock file to make a new one"
        )


def _holding(
    component: ComponentJob, number: int, stage: Stage, places: Mapping[str, int]
) -> ComponentJob:
    """The component's job, which refuses inputs of another content than they are pinned to.

    `places` are those of the inputs among its sources.
    """
    inputs = stage.document.inputs

    def complete(outcomes: Sequence[Outcome]) -> Ledger:
        issues = []
        for name, place in places.items():
            own = _component_of(component, place)
            digest = outcomes[number].ingredients[place]
            stage.found.setdefault(name, {})[own] = digest
            for pins in (inputs[name].digests, stage.pins.get(name, {})):
                if pins.get(own, digest) != digest:
                    what = f"has content {digest}, but is pinned to {pins[own]}"
                    issues.append(Issue(what, inputs[name].path))
        if issues:
            raise LedgerError.collected(issues)
        return component.complete(outcomes)

    return replace(component, complete=complete)
