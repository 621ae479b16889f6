"""Removals and additions of whole pipelines, which may share components such as a VAE.

Rule 1: a pipeline has its own weight in every component, even if others share the content, and this
weight is removed.
Rule 2: if a ledger does not record which pipelines share a content, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.open import find_input, open_input
from ..errors import LedgerError
from ..ledger.changes import CANNOT_SAY, MAKE_AGAIN, WeightRemoval, unattributed
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.lookup import containing, digests_of, matching, not_found
from ..ledger.pipelines import (
    PipelineEntry,
    as_ledger,
    attributed,
    holders,
    pipeline_digest,
    pipelines_of,
)
from ..ledger.read import require_no_sum
from .revision import AddedPipeline, ComponentChange, Removal

Removals = tuple[WeightRemoval, ...]


def pipeline_of(changes: Sequence[ComponentChange], model: Sequence[Checkpoint]) -> str | None:
    """The digest of an open pipeline; None for a single checkpoint."""
    if len(changes) < 2:
        return None
    names = [change.soup.component.name for change in changes]
    return pipeline_digest(dict(zip(names, map(checkpoint_digest, model), strict=True)))


def added_pipeline(
    changes: Sequence[ComponentChange], model: Sequence[Checkpoint]
) -> tuple[AddedPipeline, ...]:
    """Facts about an added whole model for each component."""
    digest = pipeline_of(changes, model)
    names = [change.soup.component.name for change in changes]
    ledgers = [
        change.inputs.ledger(checkpoint) for change, checkpoint in zip(changes, model, strict=True)
    ]
    soups = [ledger for ledger in ledgers if ledger is not None and ledger.training is None]
    if len(soups) < len(ledgers):
        return tuple(AddedPipeline(digest, ledger) for ledger in ledgers)
    known = attributed(names, soups)
    for each in pipelines_of(known).values():
        each.contents(names, model[0].label)
    return tuple(AddedPipeline(digest, ledger) for ledger in known)


def require_new_pipelines(
    changes: Sequence[ComponentChange], added: Sequence[Sequence[Checkpoint]]
) -> None:
    """Raise LedgerError for an added pipeline that the soup may hold already.

    That is one whose components are all in the soup, while its ledgers do not record the pipelines.
    """
    for model in added if len(changes) > 1 else ():
        held = [
            {entry.digest: entry for entry in change.before.ingredients}.get(
                checkpoint_digest(checkpoint)
            )
            for change, checkpoint in zip(changes, model, strict=True)
        ]
        if all(entry is not None and unattributed(entry) for entry in held):
            what = f"may be in the soup already, but {CANNOT_SAY}"
            advice = "--again adds its weight"
            raise LedgerError(what, path=model[0].label, advice=advice)


def removals_by_component(
    changes: Sequence[ComponentChange], removed: Sequence[Sequence[Checkpoint] | None], soup: str
) -> list[Removals]:
    """The removals from each component; `removed` holds the opened model of each removal.

    Raises LedgerError for a text that is neither a file nor in the ledgers, and if these do not
    record its share of a component.
    """
    found: list[list[WeightRemoval]] = [[] for _ in changes]
    for removal, model in zip(changes[0].revision.removals, removed, strict=True):
        for parts in _removals(changes, removal, model, soup):
            for place, part in zip(found, parts, strict=True):
                if part is not None:
                    place.append(part)
    return [tuple(place) for place in found]


def _removals(
    changes: Sequence[ComponentChange],
    removal: Removal,
    model: Sequence[Checkpoint] | None,
    soup: str,
) -> Iterator[tuple[WeightRemoval | None, ...]]:
    """The ingredients or pipelines that one removal means, with their share of every component.

    It is None for a component that they do not change.
    """
    if model is not None:
        pipeline = pipeline_of(changes, model) or _whole_pipeline(changes[0], removal, model[0])
        for change, checkpoint in zip(changes, model, strict=True):
            require_no_sum(checkpoint)
            change.inputs.by_digest[checkpoint_digest(checkpoint)] = checkpoint
        yield tuple(
            WeightRemoval(checkpoint_digest(each), removal.what, removal.weight, pipeline)
            for each in model
        )
        return
    ledgers = [change.before for change in changes]
    names = [change.soup.component.name for change in changes]
    pipelines = pipelines_of(ledgers)
    whole = as_ledger(pipelines, ledgers)
    if len(changes) == 1 and not _matching(removal.what, whole):
        for digest in digests_of(removal.what, ledgers[0], removal.weight):
            yield (WeightRemoval(digest, removal.what, removal.weight),)
        return
    meant = _pipelines_meant(removal, ledgers, pipelines, whole, soup)
    for digest in meant:
        contents = pipelines[digest].contents(names, soup)
        yield tuple(
            None
            if content is None
            else WeightRemoval(content, removal.what, removal.weight, digest)
            for content in contents
        )


def _whole_pipeline(
    change: ComponentChange, removal: Removal, checkpoint: Checkpoint
) -> str | None:
    """The digest of the pipeline whose component is removed, if others share the component.

    All components are read, because the content of a shared one does not identify the pipeline.
    """
    digest = checkpoint_digest(checkpoint)
    shared = [entry for entry in change.before.ingredients if len(entry.pipelines) > 1]
    if digest not in {entry.digest for entry in shared}:
        return None
    revision = change.revision
    names = {each.name for each in find_input(revision.soup).components}
    found = {}
    for each in find_input(removal.what, variant=revision.variant).components:
        if each.name in names:
            with open_input(each) as part:
                found[each.name] = checkpoint_digest(part)
                part.require_unchanged()
    return pipeline_digest(found) if len(found) > 1 else None


def _pipelines_meant(
    removal: Removal,
    ledgers: Sequence[Ledger],
    pipelines: Mapping[str, PipelineEntry],
    whole: Ledger,
    soup: str,
) -> tuple[str, ...]:
    """The pipelines that a text means: by name, digest or data shard, also of a component."""
    if _matching(removal.what, whole):
        return digests_of(removal.what, whole, removal.weight)
    entries = [entry for ledger in ledgers for entry in _matching(removal.what, ledger)]
    if not entries:
        listing = whole if pipelines else max(ledgers, key=lambda each: len(each.ingredients))
        above = (ledger for ledger in ledgers if containing((removal.what,), ledger))
        raise not_found(removal.what, next(above, listing))
    if any(map(unattributed, entries)):
        raise LedgerError(f"is in {soup}, but {CANNOT_SAY}", path=removal.what, advice=MAKE_AGAIN)
    found = {each.digest: each for entry in entries for each in holders(entry.digest, pipelines)}
    if len(found) > 1:
        shown = ", ".join(each.name for each in list(found.values())[:5])
        what = f"is in {soup} as a part of several pipelines: {shown}"
        raise LedgerError(what, path=removal.what, advice="give the name of one")
    return tuple(found)


def _matching(text: str, ledger: Ledger) -> tuple[IngredientEntry, ...]:
    return matching(text, ledger.ingredients, ledger.ancestors)
