"""A base, or a mean of models, with deltas added: planned, and ready to be made.

Rule 1: deltas and adapters are added to the mean, each times its scale; their scales are no part of
the total that the models' weights are divided by.
Rule 2: one delta of scale 1 on its own base gives FINE.
Rule 3: a component of a pipeline that no delta changes is the base's, or the mean of the models'.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.listing import component_at
from ..errors import Issue, MismatchError
from ..frozen import frozen
from ..ledger.block_weights import WeightByBlock
from ..ledger.ledger import PipelineShare
from ..ledger.names import unique_names
from .adapter_reader import AdapterReader
from .aligned import Alignment, align
from .applied_ledger import OTHER_BASE, complete_applied, draft_applied
from .applied_plan import Delta, plan_applied
from .applied_sources import gives_fine, with_deltas
from .applied_sum import SumRequest, with_sum
from .delta.reader import DeltaReader
from .destination import ComponentFiles, destination_for
from .facts import facts_of_source, has_unread_config
from .given_deltas import Bases
from .identical import require_identical
from .ingredients import ComponentInputs, Inputs
from .job import ComponentJob, Job
from .kept_sum.reader import Source
from .kept_sum.record import SumRecord
from .new_ledger import PlannedComponent, hint_to
from .notes import listed
from .plan import Plan
from .recipe import Recipe, columns_of, require_matches, selector
from .scaled_deltas import ModelsWithDeltas, ScaledDelta, summed_deltas
from .settings import require_same_settings
from .whole_models import WholeModels, whole_models

BASE_WEIGHT = WeightByBlock(Fraction(1))


def planned_mixture(
    mixture: ModelsWithDeltas, inputs: Inputs, alignments: Sequence[Alignment]
) -> Job:
    """The job of a mixture; the components of the inputs have its models, under common names.

    Raises what `plan_applied` raises, and MismatchError for deltas of other bases.
    """
    recipe = mixture.recipe
    if recipe.keys or recipe.excludes or recipe.dtype_for:
        require_matches(recipe, {name for each in alignments for name in each.sources[0].tensors})
    components = [
        _planned(mixture, position, *each)
        for position, each in enumerate(zip(inputs.components, alignments, strict=True))
    ]
    plans = [each.plan for each in components]
    destination = destination_for(
        mixture.output, inputs, plans, mixture.shard_size, mixture.variant
    )
    wholes = whole_models(mixture, inputs)
    jobs = tuple(
        _job(mixture, component, position, files, destination.folder_of(files), wholes)
        for position, (component, files) in enumerate(
            zip(components, destination.components, strict=True)
        )
    )
    used = Inputs(inputs.models, tuple(each.inputs for each in components))
    weights = _shown(mixture, inputs, components)
    added = frozenset(range(len(mixture.models), len(weights)))
    return Job(weights, used, destination, jobs, added)


@frozen
class _Planned:
    """One component of a mixture, planned."""

    inputs: ComponentInputs
    """Its models, and its deltas after them."""
    plan: Plan
    alignment: Alignment
    recipe: Recipe
    """The recipe, with the weights of its models and the scales of its deltas."""
    deltas: tuple[Delta, ...]
    summed: tuple[Plan, Sequence[Source]] | None
    """The plan and sources of the sum, if one is kept and it is not made with the soup."""
    sum_record: SumRecord | None
    """None if no sum is kept."""


def _planned(
    mixture: ModelsWithDeltas, position: int, alone: ComponentInputs, alignment: Alignment
) -> _Planned:
    scaled = summed_deltas(mixture, position)
    recipe = _recipe(mixture, scaled)
    models = alone.checkpoints
    deltas = _as_applied(mixture, scaled, recipe, models)
    facts = [facts_of_source(source) for source in alignment.sources]
    plan = plan_applied(recipe, alignment.sources, deltas, facts)
    every = with_deltas(alignment, deltas)
    component = ComponentInputs(
        alone.name,
        (*models, *(each.checkpoint for each in deltas)),
        (*alone.ledgers, *(each.ledger for each in deltas)),
        alone.layout,
    )
    differences = [each for each in deltas if isinstance(each, DeltaReader)]
    require_same_settings((*models, *(each.checkpoint for each in differences)))
    if len(models) > 1:
        require_identical(plan, every.sources)
    summed = record = None
    if mixture.keep_sum:
        given = SumRequest(recipe, alignment.sources, deltas, facts)
        plan, summed, record = with_sum(plan, given)
    return _Planned(component, plan, every, recipe, tuple(deltas), summed, record)


def _job(
    mixture: ModelsWithDeltas,
    planned: _Planned,
    position: int,
    files: ComponentFiles,
    folder: Path | None,
    wholes: WholeModels | None,
) -> ComponentJob:
    """The job of a component whose file or folder is in `folder`."""
    count = len(mixture.models)
    component, plan, alignment = planned.inputs, planned.plan, planned.alignment
    names = _names(component)
    shares: list[tuple[PipelineShare, ...]] = [()] * len(names)
    if wholes is not None:
        names = wholes.names_of(position, len(names))
        hints = [hint_to(each, folder) for each in component.checkpoints]
        shares = [wholes.shares_of(position, place, hint) for place, hint in enumerate(hints)]
    named = PlannedComponent(planned.recipe, names, component, plan, alignment, folder)
    draft = draft_applied(named, shares, count)
    complete = partial(
        complete_applied,
        draft,
        component,
        planned.deltas,
        count,
        position=position,
        wholes=wholes,
        other_base=mixture.other_base,
    )
    added = (False,) * count + (True,) * len(planned.deltas)
    # of a pipeline, other components have them
    left_out = _left_out(planned.deltas) if wholes is None else ()
    notes = (*left_out, *_without_scale(planned.deltas))
    sources = alignment.sources
    return ComponentJob(
        component,
        plan,
        files,
        draft,
        complete,
        sources,
        planned.sum_record,
        planned.summed,
        notes=notes,
        added=added,
    )


def _shown(
    mixture: ModelsWithDeltas, inputs: Inputs, components: Sequence[_Planned]
) -> tuple[tuple[str, Fraction], ...]:
    """The models and deltas with their weights and scales, as the user named them."""
    labels = [model.label for model in inputs.models]
    if len(components) == 1:
        labels += [each.label for each in components[0].deltas]
        return tuple(zip(labels, components[0].recipe.weights, strict=True))
    labels += [each.label for each in mixture.deltas]
    weights = (*mixture.models, *mixture.scales)
    return tuple((label, each.usual) for label, each in zip(labels, weights, strict=True))


def aligned_models(inputs: Inputs, recipe: Recipe) -> tuple[Alignment, ...]:
    """The models of each component under common names."""
    return tuple(align(component.checkpoints, selector(recipe)) for component in inputs.components)


def bases_of(inputs: Inputs, alignments: Sequence[Alignment], component: str | None) -> Bases:
    """The components of the first model, or the only one that was picked of a pipeline."""
    sources = tuple(each.sources[0] for each in alignments)
    names = tuple(component.name for component in inputs.components)
    model = inputs.models[0]
    if component is None and names == ("",):
        component = component_at(model.folder)
    return Bases(model.label, sources, names, component)


def _left_out(deltas: Sequence[Delta]) -> Iterator[str]:
    """Remarks on modules of adapters that belong to other components than the picked one."""
    for each in deltas:
        if isinstance(each, AdapterReader) and each.left_out:
            yield f"{each.label}: left out, since other models have them: {listed(each.left_out)}"


def _without_scale(deltas: Sequence[Delta]) -> Iterator[str]:
    """Remarks on adapters whose scale may be in a config that is not read."""
    for each in deltas:
        is_silent = isinstance(each, AdapterReader) and each.says_no_scale
        if is_silent and has_unread_config(each.checkpoint):
            yield (
                f"{each.label}: has no alphas, so its scale is 1; the adapter_config.json beside it"
                " is read only for adapter_model.safetensors"
            )


def _recipe(mixture: ModelsWithDeltas, deltas: Sequence[ScaledDelta]) -> Recipe:
    """The recipe with the weights of all models and the scales of all deltas after them."""
    weights = (*mixture.models, *(each.scale for each in deltas))
    return replace(
        mixture.recipe,
        weights=tuple(each.usual for each in weights),
        blocks=columns_of(mixture.blocks, weights),
    )


def _as_applied(
    mixture: ModelsWithDeltas,
    scaled: Sequence[ScaledDelta],
    recipe: Recipe,
    models: Sequence[Checkpoint],
) -> list[Delta]:
    """The deltas, one that gives FINE as such; MismatchError for those of different bases."""
    deltas = [each.delta for each in scaled]
    differences = [each for each in deltas if isinstance(each, DeltaReader)]
    if not mixture.other_base:
        _require_one_base(differences, models)
    if len(models) == 1 and gives_fine(recipe.weights, recipe.blocks, deltas):
        of = differences[0].ledger.base
        # without --other-base, the pass refuses any other base
        if not mixture.other_base or checkpoint_digest(models[0]) == of:
            return [differences[0].giving_fine()]
    return deltas


def _require_one_base(deltas: Sequence[DeltaReader], models: Sequence[Checkpoint]) -> None:
    """Raise MismatchError for deltas of different bases by their ledgers, or added to a mean."""
    issues = [
        Issue(f"is a delta of another base than {deltas[0].label}", each.label, advice=OTHER_BASE)
        for each in deltas[1:]
        if each.ledger.base != deltas[0].ledger.base
    ]
    if len(models) > 1:
        advice = "other-base = true applies it anyway"
        issues = [
            Issue("is a delta of one base, added to a mean of models", each.label, advice=advice)
            for each in deltas
        ]
    if issues:
        raise MismatchError.collected(issues)


def _names(component: ComponentInputs) -> tuple[str, ...]:
    """How the ledger calls the models and the deltas."""
    paths = [
        os.path.abspath(each.component.path) if each.component.files else each.label
        for each in component.checkpoints
    ]
    return unique_names(paths)
