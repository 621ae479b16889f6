"""Open the pass of a recipe that adds deltas or adapters to a model, or to a mean of models.

Rule 1: the weights of models are their shares, so that scales need no total.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction

from ...choices import OnMissing
from ...errors import UsageError
from ...ledger.block_weights import WeightByBlock
from ...ledger.weights import rounded_weight
from ..given_deltas import open_delta
from ..ingredients import Ingredient, open_inputs
from ..job import Job
from ..kept_sum.opened import require_keepable
from ..mixture import (
    BASE_WEIGHT,
    aligned_models,
    bases_of,
    planned_mixture,
)
from ..recipe import Recipe
from ..scaled_deltas import ModelsWithDeltas, places_of
from .compose import Composition, Row
from .stage import Stage


@contextmanager
def open_recipe_mixture(
    stage: Stage, found: Composition, used: Sequence[int], added: Collection[str]
) -> Iterator[tuple[Job, list[dict[str, int]]]]:
    """The planned pass of a composition with deltas, and the inputs' places in each component.

    `used` are the inputs that count, of which `added` are deltas and adapters.
    """
    document, options = stage.document, stage.document.options
    _require_possible(stage, found)
    names = document.needed_inputs
    models = [place for place in used if names[place] not in added]
    deltas = [place for place in used if names[place] in added]
    blocks = tuple(glob for glob, _ in found.blocks)
    weights = _by_block(found, models, options.round_weights)
    paths = [document.inputs[names[place]].path for place in (*models, *deltas)]
    recipe = Recipe(
        weights=(),
        dtype=options.dtype,
        keys=options.keys,
        excludes=options.excludes,
        on_int=options.on_int,
        dtype_for=options.dtype_for,
        allow_nonfinite=options.allow_nonfinite,
    )
    ingredients = [Ingredient(path) for path in paths[: len(models)]]
    with (
        open_inputs(ingredients, component=options.component, variant=options.variant) as inputs,
        ExitStack() as stack,
    ):
        alignments = aligned_models(inputs, recipe)
        bases = bases_of(inputs, alignments, options.component)
        mixture = ModelsWithDeltas(
            models=(BASE_WEIGHT,) if len(models) == 1 else [weights[n] for n in models],
            deltas=[open_delta(stack, path, bases) for path in paths[len(models) :]],
            scales=[weights[n] for n in deltas],
            blocks=blocks,
            recipe=recipe,
            output=stage.output,
            other_base=options.other_base,
            variant=options.variant,
            keep_sum=stage.keep_sum,
        )
        job = planned_mixture(mixture, inputs, alignments)
        places = [
            {names[place]: n for n, place in enumerate(models)}
            | {names[deltas[n]]: at for n, at in places_of(mixture, position).items()}
            for position in range(len(inputs.components))
        ]
        yield job, places


def _require_possible(stage: Stage, found: Composition) -> None:
    """Raise UsageError for options that do not work with deltas."""
    options, label = stage.document.options, stage.document.label
    if not found.normalize:
        what = "adds deltas to a sum that is not normalized"
        raise UsageError(what, path=label, advice="materialise = true in the step that makes it")
    if stage.keep_sum:
        require_keepable(stage.output, options.allow_nonfinite)
    if options.take:
        what = "has take at the top level, together with deltas"
        raise UsageError(what, path=label, advice="use a step with from and take")
    for key, is_given in (
        ("pad", bool(options.pad)),
        ("quantize", options.quantize is not None),
        ("config-from", options.config_from is not None),
    ):
        if is_given:
            what = f"has {key}, which does not work with deltas"
            raise UsageError(what, path=label, advice=f"leave out {key}")
    if options.on_missing is not OnMissing.REFUSE:
        what = "has on-missing, which does not work with deltas"
        raise UsageError(what, path=label, advice="leave out on-missing")


def _by_block(
    found: Composition, models: Sequence[int], decimals: int | None
) -> list[WeightByBlock]:
    """The share or scale of every input by block."""
    usual = _shares(found.default, models, decimals)
    rows = [_shares(row, models, decimals) for _, row in found.blocks]
    return [
        WeightByBlock(weight, tuple(row[place] for row in rows))
        for place, weight in enumerate(usual)
    ]


def _shares(row: Row, models: Sequence[int], decimals: int | None) -> Row:
    total = sum((row[place] for place in models), Fraction(0))
    shares = (weight / total for weight in row)
    return tuple(rounded_weight(share, decimals) if share else share for share in shares)
