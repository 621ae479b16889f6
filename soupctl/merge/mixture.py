"""A base, or a mean of models, with deltas added: planned, and ready to be made.

Rule 1: deltas and adapters are added to the mean, each times its scale; their scales are no part of
the total that the models' weights are divided by.
Rule 2: one delta of scale 1 on its own base gives FINE.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..errors import Issue, LedgerError, MismatchError, UsageError
from ..ledger.block_weights import WeightByBlock
from ..ledger.names import unique_names
from .aligned import Alignment, align
from .applied_ledger import OTHER_BASE, complete_applied, draft_applied
from .applied_plan import Delta, plan_applied
from .applied_sources import gives_fine
from .delta.reader import DeltaReader
from .destination import decide
from .facts import facts_of_source
from .identical import require_identical
from .ingredients import ComponentInputs, Inputs
from .job import ComponentJob, Job
from .recipe import Recipe, columns_of, require_matches, selector
from .settings import require_same_settings

BASE_WEIGHT = WeightByBlock(Fraction(1))


@dataclass(frozen=True, slots=True)
class WeighedDelta:
    """A delta or adapter with its scale by block."""

    delta: Delta
    scale: WeightByBlock


@dataclass(frozen=True, slots=True)
class ModelsWithDeltas:
    """Models with their weights, and deltas: everything that decides the bytes, and the output."""

    models: Sequence[WeightByBlock]
    """The weights of the models in the order of the inputs; of a base alone it is 1."""
    deltas: Mapping[str, WeighedDelta]
    """By content digest."""
    blocks: tuple[str, ...]
    """The globs of blocks that weights and scales differ by."""
    recipe: Recipe
    """What else is asked for; its weights do not count."""
    output: str | Path
    other_base: bool = False
    variant: str | None = None
    shard_size: int | None = None


def summed_deltas(given: Sequence[WeighedDelta]) -> dict[str, WeighedDelta]:
    """The deltas by content digest, those of one content as one; UsageError if they cancel."""
    found: dict[str, WeighedDelta] = {}
    for each in given:
        known = each.delta.ledger
        root = checkpoint_digest(each.delta.checkpoint) if known is None else known.root
        if root in found:
            if checkpoint_digest(each.delta.checkpoint) != root:
                # of the same content only the first is read
                raise LedgerError("its ledger does not match its tensors", path=each.delta.label)
            found[root] = replace(found[root], scale=found[root].scale + each.scale)
        else:
            found[root] = each
    for each in found.values():
        if not each.scale:
            what = "is given more than once, with scales that cancel, or with a scale of zero"
            raise UsageError(what, path=each.delta.label, advice="leave it out")
    return found


def planned_mixture(mixture: ModelsWithDeltas, inputs: Inputs, alignment: Alignment) -> Job:
    """The job of a mixture; the only part of the inputs has its models, under common names.

    Raises what `plan_applied` raises, and MismatchError for deltas of other bases.
    """
    (alone,) = inputs.parts
    models, count = alone.checkpoints, len(alone.checkpoints)
    deltas = _as_applied(mixture, models)
    recipe = _recipe(mixture)
    if recipe.keys or recipe.excludes or recipe.dtype_for:
        require_matches(recipe, alignment.sources[0].tensors)
    facts = [facts_of_source(source) for source in alignment.sources]
    plan = plan_applied(recipe, alignment.sources, deltas, facts)
    every = replace(
        alignment,
        sources=(*alignment.sources, *deltas),
        renamed=(*alignment.renamed, *(None for _ in deltas)),
    )
    part = ComponentInputs(
        alone.name,
        (*models, *(each.checkpoint for each in deltas)),
        (*alone.ledgers, *(each.ledger for each in deltas)),
        alone.layout,
    )
    differences = [each for each in deltas if isinstance(each, DeltaReader)]
    require_same_settings((*models, *(each.checkpoint for each in differences)))
    if count > 1:
        require_identical(plan, every.sources)
    destination = decide(mixture.output, inputs, [plan], mixture.shard_size, mixture.variant)
    (files,) = destination.components
    labels = [*(model.label for model in inputs.models), *(each.label for each in deltas)]
    folder = destination.folder_of(files)
    draft = draft_applied(recipe, _names(part), part, plan, every, count, folder)
    complete = partial(
        complete_applied, draft, part, differences, count, other_base=mixture.other_base
    )
    added = (False,) * count + (True,) * len(deltas)
    job = ComponentJob(part, plan, files, draft, complete, every.sources, added=added)
    weights = tuple(zip(labels, recipe.weights, strict=True))
    places = frozenset(range(count, len(labels)))
    return Job(weights, Inputs(inputs.models, (part,)), destination, (job,), places)


def aligned_models(part: ComponentInputs, recipe: Recipe) -> Alignment:
    """The models under common names."""
    return align(part.checkpoints, selector(recipe))


def _recipe(mixture: ModelsWithDeltas) -> Recipe:
    """The recipe with the weights of all models and the scales of all deltas after them."""
    weights = (*mixture.models, *(each.scale for each in mixture.deltas.values()))
    return replace(
        mixture.recipe,
        weights=tuple(each.usual for each in weights),
        blocks=columns_of(mixture.blocks, weights),
    )


def _as_applied(mixture: ModelsWithDeltas, models: Sequence[Checkpoint]) -> list[Delta]:
    """The deltas, one that gives FINE as such; MismatchError for those of different bases."""
    deltas = [each.delta for each in mixture.deltas.values()]
    differences = [each for each in deltas if isinstance(each, DeltaReader)]
    if not mixture.other_base:
        _require_one_base(differences, models)
    recipe = _recipe(mixture)
    if len(models) == 1 and gives_fine(recipe.weights, recipe.blocks, deltas):
        of = differences[0].ledger.base
        # without --other-base, the pass refuses another one
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
        advice = "other-base = true applies it all the same"
        issues = [
            Issue("is a delta of one base, added to a mean of models", each.label, advice=advice)
            for each in deltas
        ]
    if issues:
        raise MismatchError.collected(issues)


def _names(part: ComponentInputs) -> tuple[str, ...]:
    """How the ledger calls the models and the deltas."""
    paths = [
        os.path.abspath(each.component.path) if each.component.files else each.label
        for each in part.checkpoints
    ]
    return unique_names(paths)
