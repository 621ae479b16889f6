"""From a base, or a mean of models, and deltas with their scales to steps of one pass.

Rule 1: out = sum(w_i * x_i) / W + sum(s_j * d_j), exactly, rounded once; a delta without a tensor
adds nothing to it.
Rule 2: one delta of scale 1 on its own base gives FINE: its bytes, dtypes and signs of zeros.
Rule 3: an adapter is a delta whose tensors are updates; its own are digested, and in no soup.
Rule 4: any other application obeys the contract of a mean: an exact zero is +0.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import lcm

from ..choices import OnInt
from ..errors import Issue, MismatchError, UsageError
from ..format.dtypes import DType, Kind, narrowest
from ..format.header import Tensor
from ..kinds.facts import TensorFacts
from ..kinds.kind import AVERAGED, TensorKind
from ..ledger.weights import LARGEST, TOO_FINE
from .adapter_reader import AdapterReader
from .delta.reader import DeltaReader
from .kept_sum.reader import Source
from .plan import Plan, make_plan
from .recipe import Recipe, first_match
from .step import Rule, Step
from .step_weights import NO_WEIGHTS, StepWeights, naming
from .terms import SIGN_DIVISOR
from .updates import require_whole

Delta = DeltaReader | AdapterReader
Holders = Sequence[tuple[int, Delta]]
"""The deltas that change a tensor, each with its index among the sources."""


def applied_weights(asked: Sequence[Fraction], models: int) -> StepWeights:
    """The weights of so many models, which come first, and the scales of deltas, in whole numbers.

    Raises UsageError for weights that are too fine, or models whose weights are not positive.
    """
    total = sum(asked[:models], Fraction(0))
    if total <= 0:
        what = f"the weights add up to {total}"
        raise UsageError(what, advice="their total must be positive, without those of deltas")
    shares = [*(weight / total for weight in asked[:models]), *asked[models:]]
    divisor = lcm(*(share.denominator for share in shares))
    whole = tuple(int(share * divisor) for share in shares)
    if max(map(abs, whole)) > LARGEST:
        raise UsageError(TOO_FINE, advice="give scales of fewer digits")
    return StepWeights(whole, divisor)


def plan_applied(
    recipe: Recipe,
    models: Sequence[Source],
    deltas: Sequence[Delta],
    facts: Sequence[TensorFacts],
) -> Plan:
    """The plan for a base, or models of a mean, which are the first sources, and deltas after them.

    The weights of the recipe are theirs in this order. Raises what `make_plan` raises, and
    MismatchError for deltas that do not fit the models.
    """
    count = len(models)
    weights_of = _weights_by_tensor(recipe, count)
    plan = _plan_of_models(recipe, models, facts)
    dtype_of = first_match(recipe.dtype_for)
    kept = {step.name for step in plan.kept}
    base = models[0]
    issues: list[Issue] = []
    steps = []
    for step in plan.steps:
        holders = [(n, each) for n, each in enumerate(deltas, count) if step.name in _changed(each)]
        if step.out is None:
            # for an adapter, its own tensors are digested, not those that it changes
            holders = [
                (n, each)
                for n, each in holders
                if isinstance(each, DeltaReader) and step.name not in kept
            ]
        asked = dtype_of(step.name) or recipe.dtype
        problem = next(_problems(step, holders, base, recipe), None)
        if problem is not None:
            issues.append(problem)
            continue
        steps.append(_step(step, holders, weights_of(step.name), asked, _gives_fine(deltas)))
    issues += _unknown(base, deltas)
    steps += _own_steps(deltas, count)
    if issues:
        raise MismatchError.collected(issues)
    steps.sort(key=lambda step: (step.name, step.shape, step.rule.value))
    weights = applied_weights(recipe.weights, count)
    return Plan(weights, tuple(steps), recipe.allow_nonfinite)


def _plan_of_models(recipe: Recipe, models: Sequence[Source], facts: Sequence[TensorFacts]) -> Plan:
    """The plan without deltas."""
    count = len(models)
    if count == 1:
        # the base counts even if the scales of all deltas are zero
        alone = replace(recipe, weights=(Fraction(1),), blocks=(), on_int=OnInt.REFUSE, takes=())
    else:
        blocks = tuple((glob, weights[:count]) for glob, weights in recipe.blocks)
        alone = replace(recipe, weights=recipe.weights[:count], blocks=blocks, takes=())
    labels, tensors = [each.label for each in models], [each.tensors for each in models]
    return make_plan(alone, labels, tensors, facts=facts)


def _changed(delta: Delta) -> Mapping[str, Tensor]:
    """The tensors that a delta changes."""
    return delta.changed if isinstance(delta, AdapterReader) else delta.tensors


def _own_steps(deltas: Sequence[Delta], models: int) -> Iterator[Step]:
    """The steps of the tensors of adapters, which are digested alone."""
    for index, each in enumerate(deltas, models):
        if isinstance(each, AdapterReader):
            for name, tensor in each.checkpoint.tensors.items():
                alone = ((index,), (tensor.dtype,), None, NO_WEIGHTS)
                yield Step(name, tensor.shape, Rule.LEFT_OUT, *alone)


def _gives_fine(deltas: Sequence[Delta]) -> bool:
    return any(isinstance(each, DeltaReader) and each.gives_fine for each in deltas)


def _weights_by_tensor(recipe: Recipe, models: int) -> Callable[[str], StepWeights]:
    """The weights of the sources in the tensor of a name; UsageError, naming it, if they fail."""
    blocks_of = first_match(recipe.blocks)
    shared = cache(applied_weights)

    def weights_of(name: str) -> StepWeights:
        with naming(name):
            return shared(blocks_of(name) or recipe.weights, models)

    return weights_of


def _unknown(base: Source, deltas: Sequence[Delta]) -> Iterator[Issue]:
    """The issues of tensors that deltas change but the base lacks."""
    for each in deltas:
        for name in _changed(each):
            if name not in base.tensors:
                yield Issue(f"changes a tensor that {base.label} lacks", each.label, name)


def _problems(step: Step, holders: Holders, base: Source, recipe: Recipe) -> Iterator[Issue]:
    """The issues that prevent deltas from being applied to one tensor."""
    if step.out is None:
        return
    leave_out = "--exclude leaves the tensor out"
    for _, each in holders:
        tensor = _changed(each)[step.name]
        if tensor.shape != step.shape:
            shapes = f"has shape {list(tensor.shape)} where {base.label} has {list(step.shape)}"
            yield Issue(shapes, each.label, step.name, leave_out)
        elif isinstance(each, AdapterReader) and step.scales:
            what = f"would update a tensor that is quantised in {base.label}"
            yield Issue(what, each.label, step.name, "apply it to the unquantised model")
        elif _is_whole(each, step.name):
            if _gives_fine([each]) or _takes_first(step, recipe):
                continue
            kept = f"keeps the {tensor.dtype.value} tensor whole, which has no difference to scale"
            advice = f"scale 1 on its own base takes it, {leave_out}"
            if step.dtypes[0].kind is Kind.INTEGER:
                advice = f"--on-int first takes the base's, {advice}"
            yield Issue(kept, each.label, step.name, advice)
        elif step.rule is not Rule.AVERAGE:
            what = f"would change {_text(step.kind)} in {base.label}"
            yield Issue(what, each.label, step.name, leave_out)


def _is_whole(delta: Delta, name: str) -> bool:
    return isinstance(delta, DeltaReader) and delta.is_whole(name)


def _has_negative_zeros(delta: Delta, name: str) -> bool:
    return isinstance(delta, DeltaReader) and delta.has_negative_zeros(name)


def _scales(name: str, holders: Holders, weights: StepWeights) -> Iterator[tuple[int, Fraction]]:
    """The scales of the updates of a tensor, each with the weight of its adapter."""
    for index, each in holders:
        if isinstance(each, AdapterReader) and weights.whole[index]:
            yield from ((weights.whole[index], scale) for scale in each.scales(name))


def _text(kind: TensorKind) -> str:
    return "integers" if kind.role in AVERAGED else f"a {kind.text}"


def _takes_first(step: Step, recipe: Recipe) -> bool:
    return recipe.on_int is OnInt.FIRST and step.dtypes[0].kind is Kind.INTEGER


def _step(
    step: Step, holders: Holders, weights: StepWeights, asked: DType | None, gives_fine: bool
) -> Step:
    """The step of the models alone, with the deltas that change the tensor."""
    held = tuple(index for index, _ in holders)
    dtypes = tuple(_changed(each)[step.name].dtype for _, each in holders)
    whole = any(_is_whole(each, step.name) for _, each in holders)
    every = replace(step, sources=(*step.sources, *held), dtypes=(*step.dtypes, *dtypes))
    if step.out is None:
        return every
    if step.scales:
        every = replace(every, scales=(*step.scales, *(None for _ in held)))
    if whole:
        if gives_fine:
            # only the delta, not the base
            taken = StepWeights((0, 1), 1)
            return replace(every, rule=Rule.TAKEN, out=dtypes[0], weights=taken, scales=())
        return replace(every, rule=Rule.FIRST, weights=StepWeights((1,) * len(every.sources), 1))
    if step.rule is not Rule.AVERAGE:
        return step
    if not held:
        same = gives_fine and step.out is step.dtypes[0] and not step.scales
        return replace(step, rule=Rule.TAKEN) if same else step
    counted = StepWeights(tuple(weights.whole[n] for n in every.sources), weights.divisor)
    finer = {
        each.tensors[step.name].dtype
        for index, each in holders
        if isinstance(each, DeltaReader) and weights.whole[index]
    }
    out = dtypes[0] if gives_fine else narrowest(frozenset({step.out, *finer}))
    require_whole(counted, list(_scales(step.name, holders, weights)))
    if gives_fine and any(_has_negative_zeros(each, step.name) for _, each in holders):
        signed = tuple(SIGN_DIVISOR * weight for weight in counted.whole)
        counted = StepWeights(signed, SIGN_DIVISOR * counted.divisor)
    return replace(every, out=asked or out, weights=counted)
