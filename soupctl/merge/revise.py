"""Changing a soup: add, remove or swap ingredients.

Rule 1: by default the result is recomputed from the ingredients that remain, found by content, so
its tensors are those of a soup that never held the others.
Rule 2: the rounded soup is computed with only on request, and all later ledgers record that.
Rule 3: a soup whose tensors do not match its ledger is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component, ModelFiles
from ..checkpoints.open import find_input, with_same_components
from ..ledger.block_weights import NO_WEIGHT
from ..ledger.ledger import Ledger
from ..ledger.pipelines import attributed
from ..ledger.read import is_sum
from ..storage.regular import reading
from ..workers import ExecutionOptions
from .added_digest import added_digest, find_for
from .config_source import config_source, folder_at, recorded_sources
from .data_question import with_data_digests
from .destination import destination_for
from .given_deltas import Bases
from .ingredients import Inputs
from .job import ComponentJob, ComponentResult, Job
from .kept_sum.find import find_sum, recorded_root
from .membership import ledger_before, removed_weight
from .notes import notes_on
from .opened_inputs import OpenedInputs, is_input, open_model
from .revised_component import RevisedComponent, revise_component
from .revision import AddedPipeline, Addition, ComponentChange, Revision
from .run import carry_out
from .shared_components import added_pipeline, removals_by_component, require_new_pipelines
from .sources import is_added, require_digests
from .whole_digests import open_partial_delta, with_whole_digests


def revise(
    revision: Revision, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the changed soup and return the result of each component.

    `force` replaces an existing output, even the soup itself. Raises any child of
    SoupError; then there is no output, or the old one, and no trace.
    """
    with open_revision(revision) as job:
        return carry_out(job, force=force, execution=execution)


@contextmanager
def open_revision(revision: Revision) -> Iterator[Job]:
    """The planned job of a revision, its soup checked and its ingredients found.

    Raises LedgerError for a soup without a sound ledger, for removing an ingredient that it lacks,
    for adding one that it has, and for missing ingredients that an exact result needs.
    """
    place = (revision.component, revision.variant)
    soup = find_input(revision.soup, *place)
    revision = with_whole_digests(with_data_digests(revision, soup), soup)
    digests = {n: added_digest(each.path, soup) for n, each in enumerate(revision.additions)}
    deltas = {n: digest for n, digest in digests.items() if digest is not None}
    additions = [each for n, each in enumerate(revision.additions) if n not in deltas]
    added = [find_for(each.path, *place) for each in additions]
    removed = [
        find_for(each.what, *place) if is_input(each.what) else None for each in revision.removals
    ]
    soup, *others = with_same_components([soup, *added, *filter(None, removed)])
    added = others[: len(added)]
    rest = iter(others[len(added) :])
    removed = [None if each is None else next(rest) for each in removed]
    with ExitStack() as stack:
        changes = _component_changes(stack, revision, soup, added, removed, additions)
        given = [(revision.additions[n], digest) for n, digest in deltas.items()]
        changes = _with_partial_deltas(stack, changes, soup, given)
        yield planned((soup, *added), [revise_component(change) for change in changes])


def _component_changes(
    stack: ExitStack,
    revision: Revision,
    soup: ModelFiles,
    added: Sequence[ModelFiles],
    removed: Sequence[ModelFiles | None],
    additions: Sequence[Addition],
) -> list[ComponentChange]:
    """Each component of the revision, with every named file opened; `added` are whole models."""
    inputs = [OpenedInputs(stack, revision.search, revision.variant) for _ in soup.components]
    opened_soup, *opened_added = (open_model(inputs, model) for model in (soup, *added))
    opened_removed = [None if model is None else open_model(inputs, model) for model in removed]
    sums, *added_sums = (
        _sum_beside(inputs, revision, model, opened)
        for model, opened in zip((soup, *added), (opened_soup, *opened_added), strict=True)
    )
    changes = [
        ComponentChange(
            revision=revision,
            inputs=each,
            soup=opened_soup[position],
            before=before,
            additions=tuple(additions),
            added=tuple(opened[position] for opened in opened_added),
            added_paths=tuple(map(_path_of, added)),
            sum=sums[position],
            added_sums=tuple(beside[position] for beside in added_sums),
        )
        for position, (each, before) in enumerate(
            zip(inputs, _ledgers_before(revision, inputs, soup, opened_soup), strict=True)
        )
    ]
    if not revision.again:
        require_new_pipelines(changes, opened_added)
    pipelines = [added_pipeline(changes, model) for model in opened_added]
    removals = removals_by_component(changes, opened_removed, soup.label)
    changes = [
        replace(
            change,
            removals=removals[position],
            added_pipelines=tuple(each[position] for each in pipelines),
        )
        for position, change in enumerate(changes)
    ]
    # a delta may be of other components than the one that it replaces
    freed = next(filter(None, map(removed_weight, changes)), NO_WEIGHT)
    return [replace(change, freed=freed) for change in changes]


def _with_partial_deltas(
    stack: ExitStack,
    changes: Sequence[ComponentChange],
    soup: ModelFiles,
    deltas: Sequence[tuple[Addition, str]],
) -> list[ComponentChange]:
    """The changes with deltas and adapters of some components, each with its digest as a whole."""
    if not deltas:
        return list(changes)
    names = tuple(component.name for component in soup.components)
    bases = Bases(soup.label, tuple(change.soup for change in changes), names)
    inputs = [change.inputs for change in changes]
    opened = [open_partial_delta(stack, inputs, *each, bases) for each in deltas]
    found = []
    for position, change in enumerate(changes):
        here = [(x, each) for x in opened if (each := x.checkpoints[position]) is not None]
        pipelines = (AddedPipeline(x.digest, change.inputs.ledger(each)) for x, each in here)
        found.append(
            replace(
                change,
                additions=(*change.additions, *(x.addition for x, _ in here)),
                added=(*change.added, *(each for _, each in here)),
                added_paths=(*change.added_paths, *(x.path for x, _ in here)),
                added_pipelines=(*change.added_pipelines, *pipelines),
                added_sums=(*change.added_sums, *(None for _ in here)),
                placed=frozenset(checkpoint_digest(each) for _, each in here),
            )
        )
    return found


def _ledgers_before(
    revision: Revision,
    inputs: Sequence[OpenedInputs],
    soup: ModelFiles,
    opened: Sequence[Checkpoint],
) -> Sequence[Ledger]:
    """The ledger of each component of the soup, with derived pipelines."""
    ledgers = [
        ledger_before(revision, each, checkpoint, _path_of(soup))
        for each, checkpoint in zip(inputs, opened, strict=True)
    ]
    return attributed([component.name for component in soup.components], ledgers)


def _sum_beside(
    inputs: Sequence[OpenedInputs],
    revision: Revision,
    model: ModelFiles,
    opened: Sequence[Checkpoint],
) -> Sequence[Component | None]:
    """By component, the kept sum of the soup or an added soup, if the change may use it."""
    found = None
    if revision.uses_sum:
        ledgers = (each.ledger(checkpoint) for each, checkpoint in zip(inputs, opened, strict=True))
        found = find_sum(model, list(map(recorded_root, opened, ledgers)))
    return found or [None] * len(opened)


def planned(models: tuple[ModelFiles, ...], components: Sequence[RevisedComponent]) -> Job:
    """The job that makes these components; the first of `models` is the soup."""
    revision = components[0].change.revision
    inputs = Inputs(models, tuple(each.inputs for each in components))
    plans = [each.computation.plan for each in components]
    keep = revision.keeps_sum(has_sum=any(each.members.sum for each in components))
    place = config_source(revision.config_from, models)
    configs = folder_at(place, models)
    destination = destination_for(revision.output, inputs, plans, None, revision.variant, configs)
    records = recorded_sources(components, place)
    jobs = []
    for position, (each, component, files, (source, note)) in enumerate(
        zip(components, inputs.components, destination.components, records, strict=True)
    ):
        draft = replace(each.draft(destination.folder_of(files)), config_from=source)
        sources, alignment = each.computation.sources, each.computation.alignment
        added = tuple(map(draft.adds, draft.ingredients)) if draft.is_applied else ()
        job = ComponentJob(
            component,
            each.computation.plan,
            files,
            draft,
            partial(each.complete, draft, position),
            alignment.sources,
            sum_record=each.sum_record(keep),
            summed=each.computation.summed if keep else None,
            require_sources=partial(require_digests, sources),
            method=each.computation.method,
            notes=(
                *notes_on(
                    each.computation.plan,
                    alignment,
                    [each for each in component.checkpoints if not is_added(each)],
                    [glob for glob, _ in each.computation.takes],
                ),
                *([] if note is None else [note]),
            ),
            added=added,
        )
        jobs.append(job)
    weights = tuple((entry.name, entry.weight) for entry in components[0].members.after)
    # opened files that are not used in the computation are inputs too, and must not be replaced
    used = Inputs(inputs.models, (*inputs.components, *(each.named for each in components)))
    replaceable = _replaceable(revision, components)
    places = frozenset(place for place, is_added in enumerate(jobs[0].added) if is_added)
    return Job(weights, used, destination, tuple(jobs), places, replaceable)


def _replaceable(revision: Revision, components: Sequence[RevisedComponent]) -> frozenset[Path]:
    """The soup's own files, if the output replaces it; empty for a kept sum."""
    soups = [each.change.soup for each in components]
    if not _is_same(revision.soup, revision.output) or any(map(is_sum, soups)):
        return frozenset()
    return frozenset(file for soup in soups for file in soup.component.files)


def _path_of(model: ModelFiles) -> str:
    """The path from which a model's name in a ledger is derived."""
    return os.path.abspath(model.label) if model.components[0].files else model.label


def _is_same(soup: str | Path, output: str | Path) -> bool:
    with reading(str(output)):
        return Path(output).exists() and Path(soup).exists() and Path(output).samefile(soup)
