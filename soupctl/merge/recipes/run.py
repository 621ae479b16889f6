"""Run a recipe: its steps composed into one average of its inputs, in one pass.

Rule 1: nothing is rounded or written between steps, but for steps that are to be materialised.
Rule 2: contents that a recipe or its lock pins are compared before anything is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...checkpoints.open import STREAM
from ...errors import Issue, LedgerError, UsageError
from ...ledger.ledger import Ledger
from ...workers import ExecutionOptions
from ..average import Request, open_job
from ..blocks.request import BlockWeights
from ..ingredients import Ingredient, open_inputs
from ..job import ComponentJob, ComponentResult, Job
from ..order import Outcome
from ..recipe import Recipe, selector
from ..run import carry_out
from .compose import Composition, compose
from .document import RecipeDocument, RecipeInput, RecipeStep
from .lock import Lock, read_lock, write_lock
from .read import read_recipe


@dataclass(frozen=True, slots=True)
class RecipeRun:
    """A recipe to run, and its output."""

    recipe: str | Path
    """A recipe file."""
    output: str | Path
    lock: bool = False
    """Whether the contents of the inputs are pinned in a file beside the recipe, or held to it."""
    keep_sum: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a recipe that is one pass and one output."""

    document: RecipeDocument
    output: str | Path
    pins: Lock
    """What the contents of its inputs have to be."""
    keep_sum: bool = False
    found: dict[str, dict[str, str]] = field(default_factory=dict)
    """The content digests of its inputs by name and component, once they are read."""


def run_recipe(
    run: RecipeRun, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the output of a recipe and return the result of each component.

    Raises any child of SoupError; then there is no output, or the old one. Results of steps that
    are to be materialised may be there.
    """
    made: tuple[ComponentResult, ...] = ()
    stages = open_recipe(run)
    for stage in stages:
        with open_stage(stage) as job:
            made = carry_out(job, force=force, execution=execution)
    close_recipe(run, stages)
    return made


def open_recipe(run: RecipeRun) -> tuple[Stage, ...]:
    """The passes of a recipe in order: one for each materialised step, and one for the output.

    Raises what `read_recipe` and `read_lock` raise, and LedgerError for inputs that a lock lacks.
    """
    document = read_recipe(run.recipe)
    pins = read_lock(run.recipe) if run.lock else None
    if pins is not None:
        _require_locked(document, pins)
    stages = []
    for step in document.needed:
        if step.is_materialised and step.name != document.result:
            target = _beside(run.output, step.name)
            stages.append(Stage(replace(document, result=step.name), target, pins or {}))
            document = _with_file(document, step, target)
    return (*stages, Stage(document, run.output, pins or {}, run.keep_sum))


def close_recipe(run: RecipeRun, stages: Sequence[Stage]) -> Path | None:
    """Write the lock that was asked for, once all is made; its path, or None if there is one."""
    if not run.lock or read_lock(run.recipe) is not None:
        return None
    found = {name: digests for stage in stages for name, digests in stage.found.items()}
    inputs = read_recipe(run.recipe).inputs
    return write_lock(run.recipe, {name: found[name] for name in inputs if name in found})


def _require_locked(document: RecipeDocument, pins: Lock) -> None:
    issues = [
        Issue(f"input {name!r} is not in the lock", document.label, advice="make the lock anew")
        for name in document.needed_inputs
        if name not in pins
    ]
    if issues:
        raise LedgerError.collected(issues)


def _beside(output: str | Path, name: str) -> Path:
    """Where the result of a materialised step goes: beside the output, of its kind."""
    if str(output) == STREAM:
        what = "a materialised step needs an output that is a file or a folder"
        raise UsageError(what, advice="its result is written beside it")
    path = Path(output)
    return path.with_name(f"{name}{path.suffix}")


def _with_file(document: RecipeDocument, step: RecipeStep, target: Path) -> RecipeDocument:
    """The recipe where the result of a step is an input, and the step is gone."""
    steps = tuple(each for each in document.steps if each.name != step.name)
    inputs = {**document.inputs, step.name: RecipeInput(str(target))}
    return replace(document, inputs=inputs, steps=steps)


@contextmanager
def open_stage(stage: Stage) -> Iterator[Job]:
    """The pass of a stage, planned, its inputs open.

    Raises what `open_job` raises, and while it is carried out LedgerError for an input that is not
    what it is pinned to.
    """
    document, options = stage.document, stage.document.options
    names = document.needed_inputs
    found = compose(names, document.needed, _tensor_names(document))
    used = [place for place in range(len(names)) if _counts(found, place)]
    inputs = {names[place]: document.inputs[names[place]] for place in used}
    taken = {name for _, name in options.take}
    if missing := sorted(taken - inputs.keys()):
        what = f"take names {missing[0]!r}, which counts in no tensor of the result"
        raise UsageError(what, path=document.label, advice="take it in a step: from and take")
    request = Request(
        ingredients=_ingredients(found, used, [each.path for each in inputs.values()]),
        output=stage.output,
        blocks=_blocks(found, used),
        dtype=options.dtype,
        keys=options.keys,
        excludes=options.excludes,
        dtype_for=options.dtype_for,
        take=tuple((glob, document.inputs[name].path) for glob, name in options.take),
        on_int=options.on_int,
        on_missing=options.on_missing,
        allow_nonfinite=options.allow_nonfinite,
        component=options.component,
        variant=options.variant,
        round_weights=options.round_weights,
        keep_sum=stage.keep_sum,
    )
    with open_job(request) as job:
        components = tuple(
            _holding(each, place, stage, inputs) for place, each in enumerate(job.components)
        )
        yield replace(job, components=components)


def _tensor_names(document: RecipeDocument) -> frozenset[str]:
    """The names of the tensors of all inputs that the result may have."""
    options = document.options
    selected = selector(Recipe((), keys=options.keys, excludes=options.excludes))
    paths = [Ingredient(document.inputs[name].path) for name in document.needed_inputs]
    with open_inputs(paths, component=options.component, variant=options.variant) as inputs:
        return frozenset(
            name
            for part in inputs.parts
            for checkpoint in part.checkpoints
            for name in checkpoint.tensors
            if selected(name)
        )


def _counts(found: Composition, place: int) -> bool:
    return any(row[place] for row in (found.default, *(row for _, row in found.blocks)))


def _ingredients(
    found: Composition, used: Sequence[int], paths: Sequence[str]
) -> tuple[Ingredient, ...]:
    """The inputs, with weights unless blocks have them."""
    if found.blocks:
        return tuple(map(Ingredient, paths))
    weights = (found.default[place] for place in used)
    return tuple(Ingredient(path, weight) for path, weight in zip(paths, weights, strict=True))


def _blocks(found: Composition, used: Sequence[int]) -> BlockWeights | None:
    if not found.blocks:
        return None
    kept = [(glob, tuple(row[place] for place in used)) for glob, row in found.blocks]
    return BlockWeights(tuple(kept), tuple(found.default[place] for place in used))


def _holding(
    component: ComponentJob, place: int, stage: Stage, inputs: Mapping[str, RecipeInput]
) -> ComponentJob:
    """The component's job, which refuses inputs of another content than they are pinned to."""
    part = component.part.name

    def complete(outcomes: Sequence[Outcome]) -> Ledger:
        digests = dict(zip(inputs, outcomes[place].ingredients, strict=True))
        issues = []
        for name, digest in digests.items():
            stage.found.setdefault(name, {})[part] = digest
            for pins in (inputs[name].digests, stage.pins.get(name, {})):
                if pins.get(part, digest) != digest:
                    what = f"has the content {digest}, and is pinned to {pins[part]}"
                    issues.append(Issue(what, inputs[name].path))
        if issues:
            raise LedgerError.collected(issues)
        return component.complete(outcomes)

    return replace(component, complete=complete)
