"""From a recipe and the headers of its ingredients to steps that leave nothing to decide.

Rule 1: pure; a plan depends on names, shapes, dtypes and weights alone.
Rule 2: every tensor of every ingredient is in exactly one step, so that digests cover all of them.
Rule 3: steps go by name in UTF-8 order, the order in which roots are digested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

from ..checkpoints.architecture import difference_hint, shape_hint
from ..choices import OnInt
from ..errors import Issue, MismatchError, UsageError
from ..format.dtypes import DType, Kind, narrowest
from ..format.header import Tensor
from ..kinds.classify import Kinds, classify, kind_of
from ..kinds.facts import NO_FACTS, TensorFacts
from ..kinds.kind import AVERAGED, FIXED, QUANTISED, WEIGHT, Role, TensorKind
from .kind_errors import fixed_advice, not_averaged
from .recipe import Recipe, selector
from .step_weights import NO_WEIGHTS, StepWeights, usual_weights, weights_by_tensor

Contents = Mapping[str, Tensor]
"""The tensors of one ingredient by name."""


class Rule(Enum):
    """What becomes of a tensor."""

    AVERAGE = "averaged"
    IDENTICAL = "copied, must be identical in all"
    FIRST = "taken from the first ingredient"
    LEFT_OUT = "left out by --key or --exclude"


@dataclass(frozen=True, slots=True)
class Step:
    """One tensor of the soup, or one that is only digested."""

    name: str
    shape: tuple[int, ...]
    rule: Rule
    sources: tuple[int, ...]
    """Which ingredients hold the tensor; all of them unless it is left out."""
    dtypes: tuple[DType, ...]
    """Its dtype in each of `sources`."""
    out: DType | None
    """Its dtype in the soup; None if it is left out."""
    weights: StepWeights
    """Those of `sources`. What does not count for a tensor is not combined, but digested."""
    kind: TensorKind = WEIGHT
    """What it is to the model; a plain weight if it is left out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the executor needs to know of one component."""

    weights: StepWeights
    """Those of the ingredients in tensors that the recipe gives no weights of their own."""
    steps: tuple[Step, ...]
    allow_nonfinite: bool

    def reweighted(self, weights: StepWeights) -> Plan:
        """The plan with other weights of all ingredients, the same in every tensor."""
        steps = (
            replace(step, weights=weights) if step.out is not None else step for step in self.steps
        )
        return replace(self, weights=weights, steps=tuple(steps))

    @property
    def kept(self) -> tuple[Step, ...]:
        """The steps that write a tensor of the soup."""
        return tuple(step for step in self.steps if step.out is not None)


def make_plan(
    recipe: Recipe,
    names: Sequence[str],
    contents: Sequence[Contents],
    deciding: Collection[int] | None = None,
    facts: Sequence[TensorFacts] | None = None,
) -> Plan:
    """The plan for ingredients called `names` (as errors should call them) with these `contents`.

    `deciding` are the ingredients whose dtypes the soup's follow; None for all of them. `facts` are
    what each ingredient's metadata and configs say of its tensors.

    Raises UsageError for weights or a selection that cannot be, and MismatchError for names,
    shapes, dtypes or kinds that do not fit each other, all issues at once. Ingredients of equal
    layout should share one mapping: thousands of them then cost no more than one.
    """
    weights_of = weights_by_tensor(recipe)
    selected = selector(recipe)
    layouts = _Layouts(names, contents, facts or (NO_FACTS,) * len(names))
    _require_same_kinds(layouts, selected)
    _require_same_names(layouts, selected)
    first = layouts.distinct[0][1]
    kept = [tensor for tensor in first if selected(tensor)]
    if first and not kept:
        raise UsageError(
            "no tensor is left to average",
            path=names[0],
            advice="see --key, --exclude, --component",
        )
    if issues := [issue for tensor in kept if (issue := _mismatch(layouts, tensor))]:
        raise MismatchError.collected(issues)
    steps = [_kept_step(recipe, layouts, tensor, deciding, weights_of(tensor)) for tensor in kept]
    every = {tensor for _, content in layouts.distinct for tensor in content}
    steps += [_left_out_step(layouts, tensor) for tensor in every if not selected(tensor)]
    in_order = tuple(sorted(steps, key=lambda step: step.name))
    return Plan(usual_weights(recipe), in_order, recipe.allow_nonfinite)


class _Layouts:
    """The distinct contents among many ingredients, each with the first name that has it."""

    def __init__(
        self, names: Sequence[str], contents: Sequence[Contents], facts: Sequence[TensorFacts]
    ) -> None:
        positions: dict[tuple[int, TensorFacts], int] = {}
        self.distinct: list[tuple[str, Contents]] = []
        self.kinds: list[Kinds] = []
        """The kinds of the tensors of each distinct content."""
        for name, content, said in zip(names, contents, facts, strict=True):
            key = (id(content), said)
            if positions.setdefault(key, len(self.distinct)) == len(self.distinct):
                self.distinct.append((name, content))
                self.kinds.append(classify(content, said))
        self.which = tuple(
            positions[id(content), said] for content, said in zip(contents, facts, strict=True)
        )
        self.everyone = tuple(range(len(contents)))
        # one tuple for all tensors that look alike, or n ingredients would cost n words a tensor
        self.spread = cache(self._spread)

    def _spread(self, values: tuple[DType, ...]) -> tuple[DType, ...]:
        return tuple(values[position] for position in self.which)

    def has_everywhere(self, tensor: str, kind: TensorKind) -> bool:
        """Whether all ingredients have a tensor of this name, of the same kind and scheme."""
        return all(kinds.get(tensor) == kind for kinds in self.kinds)

    def of(self, tensor: str) -> list[Tensor]:
        return [content[tensor] for _, content in self.distinct]


def _require_same_kinds(layouts: _Layouts, selected: Callable[[str], bool]) -> None:
    """Raise MismatchError for codes and factors that not all ingredients have alike.

    Those that all have may be the same in all, which only reading them shows.
    """
    issues = []
    for (name, _), kinds in zip(layouts.distinct, layouts.kinds, strict=True):
        for tensor, kind in kinds.items():
            multiplies = kind.role in QUANTISED or kind.role is Role.FACTOR
            if multiplies and selected(tensor) and not layouts.has_everywhere(tensor, kind):
                issues.append(not_averaged(name, tensor, kind))
                break
    if issues:
        raise MismatchError.collected(issues)


def _require_same_names(layouts: _Layouts, selected: Callable[[str], bool]) -> None:
    name, content = layouts.distinct[0]
    expected = {tensor for tensor in content if selected(tensor)}
    issues = []
    for other_name, other in layouts.distinct[1:]:
        found = {tensor for tensor in other if selected(tensor)}
        parts = [
            f"{verb} {_some(tensors)}"
            for verb, tensors in (
                (f"lacks, unlike {name},", expected - found),
                (f"has, unlike {name},", found - expected),
            )
            if tensors
        ]
        if parts:
            hint = difference_hint(name, content, other_name, other)
            issues.append(Issue(" and ".join(parts), other_name, advice=hint))
    if issues:
        raise MismatchError.collected(issues)


def _some(tensors: Collection[str], limit: int = 2) -> str:
    listed = ", ".join(sorted(tensors)[:limit])
    rest = len(tensors) - limit
    return f"{listed} and {rest} more" if rest > 0 else listed


def _mismatch(layouts: _Layouts, tensor: str) -> Issue | None:
    """What keeps the ingredients' tensors of this name from being combined, if anything does."""
    found = layouts.of(tensor)
    first = found[0]
    for (name, _), other in zip(layouts.distinct, found, strict=True):
        against = layouts.distinct[0][0]
        if other.shape != first.shape:
            shapes = f"has shape {list(other.shape)} where {against} has {list(first.shape)}"
            return Issue(shapes, name, tensor, shape_hint(first.shape, other.shape))
        floats = (first.dtype.kind is Kind.FLOAT, other.dtype.kind is Kind.FLOAT)
        kind = kind_of(layouts.kinds[0], tensor)
        if (kind.role not in AVERAGED or floats != (True, True)) and other.dtype != first.dtype:
            dtypes = f"is {other.dtype.value} where {against} has {first.dtype.value}"
            advice = "only float dtypes may be mixed"
            if kind.role in FIXED:
                advice = fixed_advice(tensor, DType.F32)
            return Issue(dtypes, name, tensor, advice)
    return None


def _kept_step(
    recipe: Recipe,
    layouts: _Layouts,
    tensor: str,
    deciding: Collection[int] | None,
    weights: StepWeights,
) -> Step:
    found = layouts.of(tensor)
    dtypes = tuple(each.dtype for each in found)
    kind = kind_of(layouts.kinds[0], tensor)
    if kind.role not in AVERAGED:
        # integers without a scale stand for themselves, so the first's may be asked for
        first = dtypes[0].kind is Kind.INTEGER and recipe.on_int is OnInt.FIRST
        first = first and kind.role in FIXED
        rule, out = Rule.FIRST if first else Rule.IDENTICAL, dtypes[0]
    elif dtypes[0].kind is Kind.FLOAT:
        if recipe.blocks:
            counted = weights.counted
            deciding = counted if deciding is None else [i for i in deciding if i in counted]
        chosen = dtypes if deciding is None else (dtypes[layouts.which[i]] for i in deciding)
        rule, out = Rule.AVERAGE, recipe.dtype or narrowest(frozenset(chosen))
    else:
        first = dtypes[0].kind is Kind.INTEGER and recipe.on_int is OnInt.FIRST
        rule, out = Rule.FIRST if first else Rule.IDENTICAL, dtypes[0]
    spread = layouts.spread(dtypes)
    return Step(tensor, found[0].shape, rule, layouts.everyone, spread, out, weights, kind)


def _left_out_step(layouts: _Layouts, tensor: str) -> Step:
    holders = [
        (index, layouts.distinct[position][1][tensor])
        for index, position in enumerate(layouts.which)
        if tensor in layouts.distinct[position][1]
    ]
    sources = tuple(index for index, _ in holders)
    dtypes = tuple(found.dtype for _, found in holders)
    shape = holders[0][1].shape
    return Step(tensor, shape, Rule.LEFT_OUT, sources, dtypes, None, NO_WEIGHTS)
