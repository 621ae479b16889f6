"""Planning a soup: from a recipe and the headers of its ingredients to steps for the executor.

Rule 1: pure; a plan depends on names, shapes, dtypes and weights alone.
Rule 2: every tensor of every ingredient is in exactly one step, so digests cover all of them.
Rule 3: steps are sorted by name in UTF-8, the order in which roots are digested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import field, replace
from operator import attrgetter
from typing import Any

from ..choices import OnInt, OnMissing
from ..errors import Issue, MismatchError, UsageError
from ..format.dtypes import Kind, narrowest
from ..format.shards import TensorSpec
from ..frozen import frozen
from ..kinds.facts import NO_FACTS, TensorFacts
from ..kinds.kind import AVERAGED, FIXED, WEIGHT
from ..methods.settings import MethodSettings
from .layout_errors import (
    mismatch,
    require_indexed,
    require_same_kinds,
    require_same_names,
    require_taken,
)
from .layouts import Contents, Layouts
from .quantised_steps import CODES, MARKED, SCALES, scale_name, with_quantised
from .recipe import Recipe, first_match, selector
from .step import Rule, Step
from .step_weights import (
    ALONE,
    NO_WEIGHTS,
    StepWeights,
    equal_weights,
    naming,
    usual_weights,
    weights_among,
    weights_by_tensor,
)


@frozen
class Plan:
    """Everything the executor needs to know of one component."""

    weights: StepWeights
    """The ingredients' weights in tensors of no block."""
    steps: tuple[Step, ...]
    allow_nonfinite: bool
    marker: str | None = None
    """The name of the marker of quantised weights; None if none are quantised."""
    method: MethodSettings | None = None
    """The method that combines averaged tensors; None for their mean."""
    kept: tuple[Step, ...] = field(init=False, repr=False, compare=False)
    """The steps that write a tensor of the soup."""

    def __post_init__(self) -> None:
        """Choose the kept steps, once."""
        kept = tuple([step for step in self.steps if step.out is not None])
        object.__setattr__(self, "kept", kept)

    def reweighted(self, weights: StepWeights) -> Plan:
        """The plan with other weights of the ingredients, the same in every tensor."""
        steps = (
            step if step.out is None else replace(step, weights=among(weights, step.sources))
            for step in self.steps
        )
        return replace(self, weights=weights, steps=tuple(steps))

    @property
    def written(self) -> list[TensorSpec]:
        """The tensors of the soup by name: those of the steps, and companions of codes."""
        entries = [(step.name, step.out, step.shape) for step in self.kept if step.out is not None]
        if self.marker is None:
            return entries
        scales = [(scale_name(step.name), SCALES, ()) for step in self.steps if step.is_quantised]
        every = [*entries, *scales, (self.marker, CODES, (len(MARKED),))]
        return sorted(every, key=lambda entry: entry[0])


def make_plan(
    recipe: Recipe,
    names: Sequence[str],
    contents: Sequence[Contents],
    deciding: Collection[int] | None = None,
    facts: Sequence[TensorFacts] | None = None,
) -> Plan:
    """The plan for ingredients called `names` (as errors should call them) with these `contents`.

    Those beyond the weights of the recipe are donors, of which only the taken tensors count.
    `deciding` are the ingredients whose dtypes the soup's follow; None for all of them. `facts` are
    what each ingredient's metadata and configs say of its tensors.

    Raises UsageError for weights or a selection that cannot be, and MismatchError for names,
    shapes, dtypes or kinds that do not fit each other, all issues at once. Ingredients of equal
    layout should share one mapping: thousands of them then cost no more than one.
    """
    layouts = Layouts(names, contents, facts or (NO_FACTS,) * len(names), recipe)
    kept = _kept_tensors(recipe, layouts, names[0])
    if issues := list(_mismatches(layouts, kept)):
        raise MismatchError.collected(issues)
    steps = _kept_steps(recipe, layouts, kept, deciding)
    counting = {step.name: step.sources for step in steps}
    plain = layouts.plain
    for tensor in layouts.all_names:
        if tensor not in plain or tensor not in counting:
            steps += _left_out_steps(layouts, tensor, counting.get(tensor, ()))
    # left-out tensors of other ingredients are recorded beside this one
    marker = None
    if recipe.quantize is not None:
        steps, marker = with_quantised(steps, recipe)
    in_order = tuple(sorted(steps, key=_place_of(steps)))
    return Plan(usual_weights(recipe), in_order, recipe.allow_nonfinite, marker)


def _kept_tensors(recipe: Recipe, layouts: Layouts, first: str) -> list[str]:
    """The names of the soup's tensors; the errors of `make_plan` about names and kinds.

    `first` is the ingredient that errors name if no tensor is left.
    """
    selected = selector(recipe)
    require_same_kinds(layouts, selected)
    chosen = layouts.names(selected)
    missing = layouts.missing(chosen)
    require_taken(layouts, chosen)
    if recipe.on_missing is OnMissing.REFUSE:
        require_same_names(layouts, missing)
        require_indexed(layouts, selected)
    dropped = missing if recipe.on_missing is OnMissing.DROP else set()
    kept = [tensor for tensor in chosen if tensor not in dropped]
    if layouts.all_names and not kept:
        what = "no tensor is left to average"
        raise UsageError(what, path=first, advice="see --key, --exclude, --component")
    return kept


def _mismatches(layouts: Layouts, kept: Sequence[str]) -> Iterator[Issue]:
    """The issues that prevent tensors from being combined."""
    plain = layouts.plain
    dtypes_of = _own_dtypes(layouts)
    fitting: set[object] = set()
    for tensor in kept:
        dtypes = dtypes_of(tensor) if tensor in plain else None
        if dtypes is not None and dtypes in fitting:
            continue
        issue = mismatch(layouts, tensor)
        if issue is not None:
            yield issue
        elif dtypes is not None:
            fitting.add(dtypes)


def _kept_steps(
    recipe: Recipe, layouts: Layouts, kept: Sequence[str], deciding: Collection[int] | None
) -> list[Step]:
    """The steps of the soup's tensors."""
    weights_of = weights_by_tensor(recipe)
    dtype_of = first_match(recipe.dtype_for)
    dtypes_of, own = _own_dtypes(layouts), layouts.distinct[0][1]
    plain = layouts.plain
    alike: dict[tuple[object, ...], Step] = {}
    """One step of each sort of plain weights: the others differ in name and shape."""
    steps = []
    for tensor in kept:
        weights = ALONE if layouts.is_taken(tensor) else weights_of(tensor)
        dtype = dtype_of(tensor)
        # weights that are equal are one object
        sort = (dtypes_of(tensor), dtype, id(weights)) if tensor in plain else None
        like = None if sort is None else alike.get(sort)
        if like is None:
            chosen = recipe if dtype is None else replace(recipe, dtype=dtype)
            step = _kept_step(chosen, layouts, tensor, deciding, weights)
        else:
            shape = own[tensor].shape
            step = Step(tensor, shape, like.rule, like.sources, like.dtypes, like.out, like.weights)
        if sort is not None:
            alike[sort] = step
        steps.append(step)
    return steps


def _own_dtypes(layouts: Layouts) -> Callable[[str], object]:
    """The dtypes of a plain weight in the distinct layouts, by its name."""
    first, *others = [content for _, content in layouts.distinct]
    if not others:
        return lambda tensor: first[tensor].dtype
    return lambda tensor: tuple([content[tensor].dtype for content in (first, *others)])


def _place_of(steps: Sequence[Step]) -> Callable[[Step], Any]:
    """The key that steps are sorted by: the name, and what tells steps of one name apart."""
    if len({step.name for step in steps}) == len(steps):
        return attrgetter("name")
    return lambda step: (step.name, step.shape, step.rule.value)


def _kept_step(
    recipe: Recipe,
    layouts: Layouts,
    tensor: str,
    deciding: Collection[int] | None,
    weights: StepWeights,
) -> Step:
    sources, dtypes = layouts.counting(tensor)
    shape = layouts.shape(tensor)
    kind, scales = layouts.kind(tensor), layouts.scales(tensor, sources)
    if kind.role not in AVERAGED:
        # integers without a scale may be taken from the first ingredient on request
        first = dtypes[0].kind is Kind.INTEGER and recipe.on_int is OnInt.FIRST
        first = first and kind.role in FIXED
        rule, out = Rule.FIRST if first else Rule.IDENTICAL, dtypes[0]
    elif dtypes[0].kind is Kind.FLOAT:
        if recipe.blocks:
            counted = weights.counted
            deciding = counted if deciding is None else [i for i in deciding if i in counted]
        decided = layouts.distinct_dtypes(tensor, deciding)
        rule, out = Rule.AVERAGE, recipe.dtype or narrowest(decided)
        if layouts.is_taken(tensor) and out is dtypes[0] and not any(scales):
            rule = Rule.TAKEN
    else:
        first = dtypes[0].kind is Kind.INTEGER and recipe.on_int is OnInt.FIRST
        rule, out = Rule.FIRST if first else Rule.IDENTICAL, dtypes[0]
    if layouts.is_taken(tensor):
        shares = ALONE
    elif recipe.blocks and kind.role not in AVERAGED:
        shares = equal_weights(len(sources))
    else:
        with naming(tensor):
            shares = among(weights, sources)
    return Step(tensor, shape, rule, sources, dtypes, out, shares, kind, scales)


def among(weights: StepWeights, sources: tuple[int, ...]) -> StepWeights:
    """The weights of a step's sources, from those of all ingredients."""
    if sources[0] >= len(weights.whole):
        # donors have no weight
        return ALONE
    return weights if len(sources) == len(weights.whole) else weights_among(weights, sources)


def _left_out_steps(layouts: Layouts, tensor: str, counting: tuple[int, ...]) -> Iterator[Step]:
    """The step for ingredients that hold a name but are not `counting`, if there are any."""
    sources, dtypes, shape = layouts.not_counting(tensor, counting)
    kind = layouts.kind(tensor)
    is_rounded = counting and kind.role in FIXED and not layouts.is_taken(tensor)
    if sources:
        kept = kind if is_rounded else WEIGHT
        rule = Rule.READ if layouts.is_absorbed(tensor) else Rule.LEFT_OUT
        yield Step(tensor, shape, rule, sources, dtypes, None, NO_WEIGHTS, kept)
