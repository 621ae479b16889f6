"""Average checkpoints into a soup: open, plan, carry out.

Rule 1: a `Request` holds all that decides the output's bytes; threads, chunks and
device are `ExecutionOptions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

from ..choices import OnInt, OnMissing, Quantization
from ..errors import UsageError
from ..format.dtypes import DType, parse_dtype
from ..frozen import frozen
from ..ledger.block_weights import WeightTuple
from ..ledger.weights import rounded_weight
from ..workers import ExecutionOptions
from .aligned import Alignment, align, plan_aligned
from .blocks.request import BlockWeights, ClassicBlocks, read_blocks
from .config_source import config_source, folder_at
from .destination import ComponentFiles, destination_for
from .donors import Take, donors_named, donors_of, giving, sort_takes, taken_in, with_donors
from .identical import require_identical
from .ingredients import (
    ComponentInputs,
    Ingredient,
    Inputs,
    as_ingredient,
    open_inputs,
    require_several,
)
from .job import ComponentJob, ComponentResult, Job
from .kept_sum.by_block import scaled_by_block
from .kept_sum.format import smallest_scale
from .kept_sum.opened import require_keepable
from .kept_sum.record import SumRecord, record_of_sources, summed_source
from .new_ledger import (
    PlannedComponent,
    complete_average,
    draft_average,
    ingredient_names,
    weights_by_block,
)
from .notes import mixed_weights, notes_on
from .plan import Plan
from .recipe import Recipe, any_match, has_globs, is_partial, require_matches, selector
from .run import carry_out
from .settings import require_same_settings


@frozen
class Request:
    """A soup to make: everything that decides its bytes, and its output."""

    ingredients: Sequence[Ingredient | str | Path]
    """A path is an ingredient of weight 1."""
    output: str | Path
    """A file, a folder, or `-` for standard output."""
    dtype: DType | None = None
    quantize: Quantization | None = None
    """The quantisation of linear layers; None to store floats."""
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    on_int: OnInt = OnInt.REFUSE
    on_missing: OnMissing = OnMissing.REFUSE
    """What to do with tensors that not all ingredients have."""
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs with the float dtype of averaged tensors that match; the first match counts."""
    take: tuple[tuple[str, str | Path], ...] = ()
    """Globs with the checkpoint whose matching tensors are copied, not averaged.

    It is an ingredient, or a donor, which gives nothing else.
    """
    pad: tuple[str, ...] = ()
    """Globs of tensors that are padded with zeros to the input channels of the widest."""
    allow_nonfinite: bool = False
    component: str | None = None
    variant: str | None = None
    shard_size: int | None = None
    """Most bytes of data in one file of the output, which is then a folder."""
    ignore_ledger: bool = False
    check_blobs: bool = False
    """Whether files in the hub's cache must match the SHA-256 in their names."""
    config_from: str | Path | None = None
    """The ingredient whose configs are used if they differ without affecting the weights."""
    keep_sum: bool = False
    """Whether the exact sum is kept beside the soup, for `add`, `subtract` and `swap`."""
    round_weights: int | None = None
    """Decimals that the weights are rounded to before anything else; None for no rounding."""
    blocks: BlockWeights | ClassicBlocks | str | Path | None = None
    """Weights by block, or an argument for `read_blocks`."""
    normalize: bool = True
    """Whether the weighted sum is divided by the total weight."""

    def __post_init__(self) -> None:
        """Raise UsageError for a dtype that is not a float, or a sum that cannot be kept."""
        require_several("ingredients", self.ingredients)
        for dtype in filter(None, (self.dtype, *(dtype for _, dtype in self.dtype_for))):
            parse_dtype(dtype.value)
        if self.keep_sum:
            require_keepable(self.output, self.allow_nonfinite)


def average(
    request: Request, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the soup and return the result of each component; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_job(request) as job:
        return carry_out(job, force=force, execution=execution)


@contextmanager
def open_job(request: Request) -> Iterator[Job]:
    """The request with its inputs opened, checked and planned; only constants are compared."""
    ingredients = [as_ingredient(each) for each in request.ingredients]
    with open_inputs(
        ingredients,
        component=request.component,
        variant=request.variant,
        ignore_ledger=request.ignore_ledger,
        donors=donors_named(request.take, ingredients),
    ) as inputs:
        if request.check_blobs:
            from ..checkpoints.blobs import require_true_blobs

            require_true_blobs(inputs.files)
        yield planned_average(request, ingredients, inputs)


def planned_average(request: Request, ingredients: Sequence[Ingredient], inputs: Inputs) -> Job:
    """The job of a request whose inputs are open."""
    asked = _recipe(request, ingredients, inputs)
    takes, _ = sort_takes(request.take, [each.path for each in ingredients])
    if any(each.donor >= len(inputs.donors) for each in takes):
        what = "--take takes tensors from an input that a share of 0 or 1 leaves out"
        raise UsageError(what, advice="choose shares between them")
    named = [_named(asked, component, takes) for component in inputs.components]
    every = frozenset(chain.from_iterable(_tensor_names(each.alignment) for each in named))
    if has_globs(asked) or takes:
        require_matches(replace(asked, takes=tuple((each.glob, 0) for each in takes)), every)
    labels = [model.label for model in inputs.models]
    if request.blocks is not None:
        asked = _with_blocks(request, asked, labels, every)
    inputs = replace(inputs, components=tuple(each.inputs for each in named))
    names = ingredient_names(inputs)
    source = config_source(request.config_from, inputs.models)
    recipes = [replace(asked, takes=each.takes, config_from=source) for each in named]
    plans = [
        _plan(recipe, each.inputs, each.alignment)
        for recipe, each in zip(recipes, named, strict=True)
    ]
    scale = smallest_scale(weights_by_block(asked), normalize=asked.normalize)
    if request.keep_sum and asked.blocks:
        plans = [scaled_by_block(*each, scale) for each in zip(plans, recipes, strict=True)]
    configs = folder_at(source, inputs.models)
    destination = destination_for(
        request.output, inputs, plans, request.shard_size, request.variant, configs
    )
    components = []
    rows = zip(named, recipes, plans, destination.components, strict=True)
    for position, (each, recipe, plan, files) in enumerate(rows):
        folder = destination.folder_of(files)
        planned = PlannedComponent(recipe, names, each.inputs, plan, each.alignment, folder)
        record = _sum_record(scale, each.inputs, plan, each.alignment) if request.keep_sum else None
        components.append(_component_job(planned, inputs, position, files, record))
    weights = tuple(zip(labels, asked.weights, strict=True))
    return Job(weights, inputs, destination, tuple(components))


def _component_job(
    planned: PlannedComponent,
    inputs: Inputs,
    position: int,
    files: ComponentFiles,
    record: SumRecord | None,
) -> ComponentJob:
    """The job of one component, at `position` among all."""
    component, plan, alignment = planned.inputs, planned.plan, planned.alignment
    draft = draft_average(planned, inputs)
    complete = partial(complete_average, draft, planned.recipe, inputs, position)
    takes = [glob for glob, _ in planned.recipe.takes]
    notes = (
        *notes_on(plan, alignment, component.checkpoints, takes),
        *mixed_weights(component.ledgers),
    )
    return ComponentJob(
        component, plan, files, draft, complete, alignment.sources, record, notes=notes
    )


def _recipe(request: Request, ingredients: Sequence[Ingredient], inputs: Inputs) -> Recipe:
    """The recipe of a request, without weights by block and tensors taken from one source.

    Raises UsageError for options that do not work with several components.
    """
    if request.quantize is not None and len(inputs.components) > 1:
        what = f"--quantize {request.quantize} makes a single file"
        raise UsageError(what, advice="pick one of the components with --component")
    return Recipe(
        weights=tuple(
            rounded_weight(Fraction(each.weight), request.round_weights) for each in ingredients
        ),
        dtype=request.dtype,
        quantize=request.quantize,
        keys=request.keys,
        excludes=request.excludes,
        on_int=request.on_int,
        on_missing=request.on_missing,
        dtype_for=request.dtype_for,
        pads=request.pad,
        allow_nonfinite=request.allow_nonfinite,
        normalize=request.normalize,
    )


def _with_blocks(
    request: Request, recipe: Recipe, labels: Sequence[str], every: AbstractSet[str]
) -> Recipe:
    """The recipe with the requested weights by block; UsageError if they do not fit."""
    # imported late, because most soups have the same weights everywhere
    from .blocks.resolve import resolve

    asked = request.blocks
    if isinstance(asked, str | Path):
        asked = read_blocks(asked)
    assert asked is not None
    names = frozenset(filter(selector(recipe), every))
    found = resolve(asked, labels, recipe.weights, names)

    def rounded(weights: WeightTuple) -> WeightTuple:
        return tuple(
            rounded_weight(weight, request.round_weights) if weight else weight
            for weight in map(Fraction, weights)
        )

    blocks = tuple((glob, rounded(weights)) for glob, weights in found.blocks)
    return replace(recipe, weights=rounded(found.default), blocks=blocks)


@frozen
class _NamedComponent:
    """One component of the inputs under the names of the soup."""

    inputs: ComponentInputs
    """The component, with the donors that give tensors of it."""
    takes: tuple[tuple[str, int], ...]
    """Globs of tensors taken in this component, with the index of the source."""
    alignment: Alignment


def _named(recipe: Recipe, component: ComponentInputs, takes: Sequence[Take]) -> _NamedComponent:
    """The component under the names of the soup, and the tensors taken in it."""
    partial_names = is_partial(recipe) or bool(takes)
    alignment = align(component.checkpoints, selector(recipe), is_partial=partial_names)
    # a donor may give tensors to one component of a pipeline only
    every = with_donors(alignment, donors_of(component), taken_in(component, takes))
    component = replace(component, donors=giving(component, every, takes))
    names = _tensor_names(every)
    own = [pair for pair in taken_in(component, takes) if any(map(any_match((pair[0],)), names))]
    return _NamedComponent(component, tuple(own), with_donors(alignment, donors_of(component), own))


def _plan(recipe: Recipe, component: ComponentInputs, alignment: Alignment) -> Plan:
    """The plan of one component, its constants compared; MismatchError if they differ."""
    plan = plan_aligned(recipe, alignment)
    require_same_settings(component.checkpoints)
    require_identical(plan, alignment.sources)
    return plan


def _tensor_names(alignment: Alignment) -> set[str]:
    """The names of all tensors that may be in a component of the soup."""
    # ingredients with equal layouts share one table
    tables = {id(source.tensors): source.tensors for source in alignment.sources}
    return {name for tensors in tables.values() for name in tensors}


def _sum_record(
    scale: Fraction, component: ComponentInputs, plan: Plan, alignment: Alignment
) -> SumRecord:
    """The metadata of the component's sum, which has this scale."""
    sources = enumerate(alignment.sources[: len(component.checkpoints)])
    return record_of_sources(scale, [summed_source(plan, *each) for each in sources])
