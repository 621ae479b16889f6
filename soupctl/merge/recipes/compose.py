"""Composing the steps of a recipe into one average: the exact weight of each input in each tensor.

Rule 1: a step is linear in what it names, so each is a row of weights of the inputs, and nothing is
rounded on the way. Without deltas a row adds up to 1, or to the weights of the last step, or to
anything after a step that is not normalized.
Rule 2: globs become blocks of the average, in an order that gives every tensor its row; if there is
no such order, tensors are named one by one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from fractions import Fraction
from glob import escape

from ...errors import Issue, UsageError, shortened
from ...frozen import frozen
from ...ledger.block_weights import WeightTuple
from ..blocks.resolve import ResolvedBlocks, resolve, resolve_scales
from ..recipe import first_match, meant_by
from .by_layer import LayerWeights
from .document import DifferenceStep, MeanStep, MethodStep, RecipeStep, TakeStep

Row = tuple[Fraction, ...]
"""The weight of every input, in their order."""


@frozen
class Composition:
    """The weights of inputs in one average."""

    default: Row
    blocks: tuple[tuple[str, Row], ...]
    """Globs with the weights in tensors that match; the first match counts."""
    normalize: bool = True
    """Whether the weighted sum is divided by the total weight."""


@frozen
class _Choice:
    """A step, with its operation for the tensors of each of its globs, and for all others."""

    step: RecipeStep
    globs: tuple[str, ...]
    numbers: tuple[WeightTuple, ...]
    """Weights or scales for each glob, and last for all others; empty for a take step."""


def compose(
    inputs: Sequence[str],
    steps: Sequence[RecipeStep],
    names: Collection[str],
    deltas: Collection[str] = (),
) -> Composition:
    """The weights of the inputs in the last of the steps, for tensors of these names.

    Some of the inputs may be `deltas`, which are added as they are. Raises UsageError for those
    where a model is wanted, and for blocks that do not fit a step or the tensors.
    """
    _require_models(steps, deltas)
    choices = [_choice(step, names) for step in steps]
    matchers = [[re.compile(translate(glob)).match for glob in each.globs] for each in choices]
    normalize = all(_is_normalized(step) for step in steps)
    rows: dict[tuple[int, ...], Row] = {}
    by_name = {}
    for name in sorted(names):
        # index of the first glob that matches in each step; one past the last for none
        places = tuple(
            next((place for place, match in enumerate(some) if match(name)), len(some))
            for some in matchers
        )
        if places not in rows:
            rows[places] = _row(inputs, choices, places, deltas, normalize=normalize)
        by_name[name] = rows[places]
    globs = [glob for each in reversed(choices) for glob in each.globs]
    beyond = [len(some) for some in matchers]
    usual = _row(inputs, choices, beyond, deltas, normalize=normalize)
    found = None
    if len({each.globs for each in choices if each.globs}) == 1:
        found = _as_written(by_name, dict.fromkeys(globs), usual)
    found = found or blocks_of(by_name, dict.fromkeys(globs), usual)
    if normalize:
        return found
    models = [place for place, name in enumerate(inputs) if name not in deltas]
    return _undivided(found, by_name, models, steps[-1].name)


def _is_normalized(step: RecipeStep) -> bool:
    return not isinstance(step.operation, MeanStep) or step.operation.normalize


def _undivided(
    found: Composition, by_name: Mapping[str, Row], models: Sequence[int], step: str
) -> Composition:
    """The composition as a sum that is not divided, unless its weights add up to 1 everywhere.

    `models` are the places of the inputs that are not deltas.
    """
    totals = {sum((row[n] for n in models), Fraction(0)) for row in {*by_name.values()}}
    for total in (*totals, sum((found.default[n] for n in models), Fraction(0))):
        _require_positive(total, step)
    return replace(found, normalize=totals == {Fraction(1)})


def _require_models(steps: Sequence[RecipeStep], deltas: Collection[str]) -> None:
    """Raise UsageError for steps that name a delta or an adapter where a model is wanted."""
    issues = []
    for step in steps:
        match step.operation:
            case MeanStep(operands=wanted):
                pass
            case TakeStep(source=source, takes=takes):
                wanted = (source, *(name for _, name in takes))
            case DifferenceStep(base=base, added=added, minus=minus):
                wanted = (base, minus)
                if minus != base and all(name in deltas for name in added):
                    step_name = f"step {shortened(step.name)!r}"
                    what = f"{step_name}: minus applies to models only, and this step adds none"
                    issues.append(Issue(what, advice="leave it out"))
        for name in dict.fromkeys(wanted):
            if name in deltas:
                what = (
                    f"step {shortened(step.name)!r}: {shortened(name)!r} is a delta or an adapter"
                )
                issues.append(Issue(what, advice="a step with base adds it"))
    if issues:
        raise UsageError.collected(issues)


def _choice(step: RecipeStep, names: Collection[str]) -> _Choice:
    operation = step.operation
    if isinstance(operation, TakeStep):
        _require_matches(step.name, operation, names)
        return _Choice(step, tuple(glob for glob, _ in operation.takes), ())
    # a method is not linear, and a pass of its own
    assert not isinstance(operation, MethodStep)
    usual = operation.weights if isinstance(operation, MeanStep) else operation.scales
    if operation.blocks is None:
        return _Choice(step, (), (usual,))
    # the ingredients' own weights are the default
    if isinstance(operation.blocks, LayerWeights):
        rows = operation.blocks.rows(names)
        by_layer = blocks_of(rows, operation.blocks.globs(names), ())
        found = ResolvedBlocks(by_layer.default, by_layer.blocks)
    elif isinstance(operation, MeanStep):
        found = resolve(operation.blocks, operation.operands, usual, names)
    else:
        base, added = operation.base, operation.added
        found = resolve_scales(operation.blocks, base, added, usual, names)
    globs, numbers = zip(*found.blocks, strict=True) if found.blocks else ((), ())
    return _Choice(step, tuple(globs), (*numbers, found.default))


def _require_matches(step: str, operation: TakeStep, names: Collection[str]) -> None:
    """Raise UsageError for globs that match no tensor, with similar names."""
    issues = [
        Issue(
            f"step {shortened(step)!r}: take {shortened(glob)!r} matches no tensor",
            advice=meant_by(glob, names),
        )
        for glob, _ in operation.takes
        if not any(map(re.compile(translate(glob)).match, names))
    ]
    if issues:
        raise UsageError.collected(issues)


def _row(
    inputs: Sequence[str],
    choices: Sequence[_Choice],
    places: Sequence[int],
    deltas: Collection[str],
    *,
    normalize: bool,
) -> Row:
    """The weights of the inputs in the last step, for tensors with these globs of each step.

    With `normalize`, their sum is divided by their total later on.
    """
    zero = Fraction(0)
    found: dict[str, Row] = {
        name: tuple(Fraction(int(name == other)) for other in inputs) for name in inputs
    }
    for choice, place in zip(choices, places, strict=True):
        terms: list[tuple[Fraction, str]]
        match choice.step.operation:
            case MeanStep(operands=operands) as mean:
                weights = choice.numbers[place]
                total = _total(weights, choice.step.name)
                # the average divides by the total of the last step, whose weights stay as given
                stays = not mean.normalize or (normalize and choice is choices[-1])
                divisor = 1 if stays else total
                shares = [weight / divisor for weight in weights]
                terms = list(zip(shares, operands, strict=True))
            case DifferenceStep(base=base, added=added, minus=minus):
                scales = choice.numbers[place]
                differences = list(zip(scales, added, strict=True))
                models = sum((s for s, name in differences if name not in deltas), zero)
                terms = [(Fraction(1), base), (-models, minus), *differences]
            case TakeStep(source=source, takes=takes):
                taken = source if place == len(takes) else takes[place][1]
                terms = [(Fraction(1), taken)]
        scaled = [[share * each for each in found[name]] for share, name in terms]
        found[choice.step.name] = tuple(sum(each, zero) for each in zip(*scaled, strict=True))
    return found[choices[-1].step.name]


def _total(weights: WeightTuple, step: str) -> Fraction:
    """The sum of the weights of a step; UsageError unless it is positive."""
    total = sum(weights, Fraction(0))
    _require_positive(total, step)
    return total


def _require_positive(total: Fraction, step: str) -> None:
    if total <= 0:
        what = f"the weights of step {shortened(step)!r} add up to {total} in some tensors"
        raise UsageError(what, advice="their total must be positive")


def _as_written(
    by_name: Mapping[str, Row], globs: Collection[str], usual: Row
) -> Composition | None:
    """The blocks of steps that all have these globs, as `avg` and `apply` would record them.

    None if an input would count only where no tensor is.
    """
    rows: dict[str, Row] = {}
    first = first_match([(glob, glob) for glob in globs])
    for name, row in by_name.items():
        if (glob := first(name)) is not None:
            rows.setdefault(glob, row)
    counted = [any(column) for column in zip(*by_name.values(), strict=True)]
    if any(weight and not counts for weight, counts in zip(usual, counted, strict=True)):
        return None
    return Composition(usual, tuple((glob, rows[glob]) for glob in globs if glob in rows))


def blocks_of(by_name: Mapping[str, Row], globs: Collection[str], usual: Row) -> Composition:
    """Blocks that give every tensor its row: by globs if an order of them does.

    `usual` is the row of tensors of no block, unless no tensor has it.
    """
    counts = Counter(by_name.values())
    default = usual if usual in counts or not counts else counts.most_common(1)[0][0]
    left = dict(by_name)
    blocks: list[tuple[str, Row]] = []
    for may_be_default in (False, True):
        for glob in globs:
            if all(row == default for row in left.values()):
                return Composition(default, tuple(blocks))
            match = re.compile(translate(glob)).match
            matched = [name for name in left if match(name)]
            rows = {left[name] for name in matched}
            if len(rows) == 1 and (may_be_default or rows != {default}):
                blocks.append((glob, rows.pop()))
                for name in matched:
                    del left[name]
    blocks += [(escape(name), row) for name, row in left.items() if row != default]
    return Composition(default, tuple(blocks))
