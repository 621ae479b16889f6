"""The ledger of a soup: drafted from the plan, completed with the digests of the pass.

Rule 1: a draft takes at least as many bytes as the final ledger, so it sizes the headers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..errors import Issue, LedgerError, UsageError
from ..frozen import frozen
from ..ledger.ancestry import ancestry
from ..ledger.block_weights import WeightByBlock, WeightTuple
from ..ledger.entries import merged
from ..ledger.ledger import (
    CONVERTED_KEY,
    DELTA_KEY,
    LEDGER_KEY,
    SUM_KEY,
    UNKNOWN,
    IngredientEntry,
    IntegerSource,
    Ledger,
    PipelineShare,
    runs,
)
from ..ledger.ledger_json import IGNORE
from ..ledger.locate import dtype_runs
from ..ledger.names import hint, printable, unique_names
from ..ledger.pipelines import pipeline_digest
from ..storage.elsewhere import hint_at
from .adapter_reader import scales_of
from .aligned import Alignment, lacking
from .ingredients import ComponentInputs, Inputs
from .order import Outcome
from .plan import Plan
from .recipe import Recipe
from .schemes import schemes
from .step import Rule


def ingredient_names(inputs: Inputs) -> tuple[str, ...]:
    """The names of the ingredients in the ledger."""
    return unique_names(
        [
            os.path.abspath(model.label) if model.components[0].files else model.label
            for model in inputs.models
        ]
    )


@frozen
class PlannedComponent:
    """One component of a soup, planned: all that its ledger is drafted from."""

    recipe: Recipe
    names: Sequence[str]
    """The names of its sources, without donors, in the ledger."""
    inputs: ComponentInputs
    plan: Plan
    alignment: Alignment
    soup_folder: Path | None
    """The folder of the soup, a file or a component's folder; None if its place is not known."""

    @property
    def hints(self) -> tuple[str | None, ...]:
        """The ledger's hints at the paths of its sources, but for donors."""
        return tuple(hint_to(each, self.soup_folder) for each in self.inputs.checkpoints)


def draft_average(planned: PlannedComponent, inputs: Inputs) -> Ledger:
    """The draft ledger of a component: digests are unknown, and every doubtful tensor is listed."""
    recipe, component, plan = planned.recipe, planned.inputs, planned.plan
    shares: list[tuple[PipelineShare, ...]] = [()] * len(planned.names)
    if len(inputs.components) > 1:
        named = zip(planned.names, planned.hints, weights_by_block(recipe), strict=True)
        shares = [
            (PipelineShare(UNKNOWN, name, where, weight.usual, weight.blocks),)
            for name, where, weight in named
        ]
    entries = draft_entries(planned, shares)
    own = (*component.ledgers, *(donor.ledger for donor in component.donors))
    ledgers = [ledger for ledger in own if ledger is not None]
    # each ledger describes the content of its input; otherwise the pass refuses the input
    known = ancestry(ledgers).of(ledger.root for ledger in ledgers)
    firsts = tuple(step.name for step in plan.kept if step.rule is Rule.FIRST)
    return Ledger(
        operation="avg",
        root=UNKNOWN,
        ingredients=entries,
        dtypes=runs(dtype for _, dtype, _ in plan.written),
        asked_dtype=recipe.dtype,
        quantize=recipe.quantize,
        keys=recipe.keys,
        excludes=recipe.excludes,
        allow_nonfinite=recipe.allow_nonfinite,
        on_missing=recipe.on_missing,
        dtype_for=recipe.dtype_for,
        takes=tuple((glob, UNKNOWN) for glob, _ in recipe.takes),
        blocks=tuple(glob for glob, _ in recipe.blocks) if any(x.blocks for x in entries) else (),
        donors=_draft_donors(planned, inputs),
        pads=recipe.pads,
        normalize=recipe.normalize,
        config_from=None if recipe.config_from is None else UNKNOWN,
        integer_source=IntegerSource(UNKNOWN, firsts) if firsts else None,
        exact=all(ledger.exact for ledger in ledgers),
        ancestors=known.ledgers,
        disputed=known.disputed,
    )


def draft_entries(
    planned: PlannedComponent, shares: Sequence[tuple[PipelineShare, ...]]
) -> tuple[IngredientEntry, ...]:
    """The entries of a component's ingredients in order, with digests still unknown.

    `shares` are those of the pipelines that contain each.
    """
    alignment, recipe = planned.alignment, planned.recipe
    stored = schemes(planned.plan)
    lacks = lacking(planned.plan, alignment.ingredients, recipe.takes)
    weights = weights_by_block(recipe)
    return tuple(
        IngredientEntry(
            digest=UNKNOWN,
            name=planned.names[place],
            hint=where,
            weight=weights[place].usual,
            blocks=weights[place].blocks,
            dtypes=dtype_runs(planned.inputs.checkpoints[place]),
            renamed=alignment.renamed[place],
            lacks=lacks[place],
            schemes=stored.get(place, ()),
            scales=scales_of(alignment.sources[place]),
            pipelines=its,
        )
        for place, (where, its) in enumerate(zip(planned.hints, shares, strict=True))
    )


def weights_by_block(recipe: Recipe) -> tuple[WeightByBlock, ...]:
    """The weight of each ingredient by block."""
    columns = zip(*(weights for _, weights in recipe.blocks), strict=True)
    blocks: list[WeightTuple] = list(columns) or [()] * len(recipe.weights)
    return tuple(map(WeightByBlock, recipe.weights, blocks))


def _draft_donors(planned: PlannedComponent, inputs: Inputs) -> tuple[IngredientEntry, ...]:
    """The entries of a component's donors in order, with digests still unknown."""
    names, renamed = planned.names, planned.alignment.renamed
    every = unique_names([os.path.abspath(model.label) for model in inputs.donors], names)
    return tuple(
        IngredientEntry(
            digest=UNKNOWN,
            name=every[donor.number],
            hint=hint_to(donor.checkpoint, planned.soup_folder),
            weight=Fraction(0),
            dtypes=dtype_runs(donor.checkpoint),
            renamed=its,
        )
        for donor, its in zip(planned.inputs.donors, renamed[len(names) :], strict=True)
    )


def hint_to(checkpoint: Checkpoint, soup_folder: Path | None) -> str | None:
    """The ledger's hint at the path of a checkpoint; None for a stream."""
    if not checkpoint.component.files:
        return None
    path = checkpoint.component.path
    if (address := hint_at(path)) is not None:
        return printable(address)
    if soup_folder is None:
        return printable(path.name)
    return hint(os.path.abspath(path), os.path.abspath(soup_folder))


def complete_average(
    draft: Ledger,
    recipe: Recipe,
    inputs: Inputs,
    position: int,
    outcomes: Sequence[Outcome],
) -> Ledger:
    """The draft of component `position`, completed with the digests of all components.

    Raises LedgerError for an ingredient whose ledger does not match its tensors, and
    UsageError if the weights of one content cancel.
    """
    outcome = outcomes[position]
    require_ledgers_fit(inputs.components[position], outcome)
    count = len(draft.ingredients)
    entries, donors = (
        [replace(entry, digest=digest) for entry, digest in zip(drafted, digests, strict=True)]
        for drafted, digests in (
            (draft.ingredients, outcome.ingredients[:count]),
            (draft.donors, outcome.ingredients[count:]),
        )
    )
    if len(outcomes) > 1:
        entries = [
            replace(entry, pipelines=(replace(entry.pipelines[0], digest=digest),))
            for entry, digest in zip(entries, _pipelines(inputs, outcomes, count), strict=True)
        ]
    require_no_cancelling(draft, entries)
    taken = IntegerSource(outcome.ingredients[0], outcome.taken) if outcome.taken else None
    takes = tuple((glob, outcome.ingredients[source]) for glob, source in recipe.takes)
    source = recipe.config_from
    ingredients = merged(entries)
    return replace(
        draft,
        root=outcome.soup,
        ingredients=ingredients,
        blocks=draft.blocks if any(entry.blocks for entry in ingredients) else (),
        takes=takes,
        donors=_one_a_content(donors),
        config_from=None if source is None else outcome.ingredients[source],
        integer_source=taken,
    )


def _one_a_content(entries: Sequence[IngredientEntry]) -> tuple[IngredientEntry, ...]:
    """The entries sorted by digest, reduced to the first by name for each content."""
    found: dict[str, IngredientEntry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.digest, entry.name, entry.hint or "")):
        found.setdefault(entry.digest, entry)
    return tuple(found.values())


def _pipelines(inputs: Inputs, outcomes: Sequence[Outcome], count: int) -> Iterator[str]:
    """The digest of each of `count` ingredients as a whole pipeline; donors come after them."""
    names = [component.name for component in inputs.components]
    for contents in zip(*(outcome.ingredients[:count] for outcome in outcomes), strict=True):
        yield pipeline_digest(dict(zip(names, contents, strict=True)))


def require_no_cancelling(draft: Ledger, entries: Sequence[IngredientEntry]) -> None:
    """Raise UsageError for a content given several times, if its weights cancel and that shows.

    It shows in infinity, which the draft may allow, and in the dtype of a block.
    """
    if draft.allow_nonfinite:
        _require_one_sign(entries)
    if draft.blocks:
        _require_weight_in_blocks(entries, len(draft.blocks))


def _require_one_sign(entries: Sequence[IngredientEntry]) -> None:
    """Raise UsageError for a content that is added and subtracted: infinity would not cancel."""
    signs: dict[tuple[str, int], bool] = {}
    most = max(len(entry.blocks) for entry in entries)
    for entry in entries:
        weights = enumerate((entry.weight, *entry.weights.spread(most)))
        if any(
            signs.setdefault((entry.digest, place), weight > 0) != (weight > 0)
            for place, weight in weights
            if weight
        ):
            what = (
                "is given more than once with weights of both signs, which do not cancel infinity"
            )
            raise UsageError(what, path=entry.name, advice="give it once, with the summed weight")


def _require_weight_in_blocks(entries: Sequence[IngredientEntry], blocks: int) -> None:
    """Raise UsageError for a content whose weights cancel in one block: its dtype would count."""
    given: dict[tuple[str, int], list[Fraction]] = {}
    for entry in entries:
        for place, weight in enumerate((entry.weight, *entry.weights.spread(blocks))):
            if weight:
                given.setdefault((entry.digest, place), []).append(weight)
        if any(not sum(given.get((entry.digest, n), [Fraction(1)])) for n in range(blocks + 1)):
            what = "is given more than once, with weights that cancel in a block"
            raise UsageError(what, path=entry.name, advice="give it once, with the summed weights")


def require_ledgers_fit(component: ComponentInputs, outcome: Outcome) -> None:
    """Raise LedgerError for the inputs whose ledgers do not match their tensors."""
    issues = [
        Issue("its ledger does not match its tensors", checkpoint.label, advice=IGNORE)
        for checkpoint, ledger, digest in zip(
            component.opened,
            (*component.ledgers, *(donor.ledger for donor in component.donors)),
            outcome.ingredients,
            strict=True,
        )
        if ledger is not None and ledger.root != digest
    ]
    if issues:
        raise LedgerError.collected(issues)


def agreed_metadata(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    """Metadata that all ingredients agree on, without ledgers, other records and old hashes."""
    first, *rest = [checkpoint.metadata for checkpoint in checkpoints]
    return {
        key: text
        for key, text in first.items()
        if key not in (LEDGER_KEY, SUM_KEY, DELTA_KEY, CONVERTED_KEY)
        and "hash" not in key
        and all(other.get(key) == text for other in rest)
    }
