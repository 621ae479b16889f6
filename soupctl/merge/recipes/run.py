"""Running a recipe: its steps composed into one average of its inputs, in one pass.

Rule 1: nothing is rounded or written between steps, except after materialised ones.
Rule 2: pinned contents are verified before anything is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ...checkpoints.open import STREAM, find_input, open_input
from ...errors import Issue, LedgerError, UsageError, shortened
from ...frozen import frozen
from ...workers import ExecutionOptions
from ..average import Request, open_job
from ..blocks.request import BlockWeights
from ..donors import sort_takes
from ..ingredients import ComponentInputs, Ingredient, as_ingredient, open_inputs
from ..job import ComponentResult, Job
from ..methods.request import open_by_method
from ..recipe import Recipe, selector
from ..run import carry_out
from ..sources import is_added
from .compose import Composition, compose
from .document import DifferenceStep, MethodStep, RecipeDocument, RecipeInput, RecipeStep
from .history import with_history
from .issues import near
from .lock import Lock, read_lock, write_lock
from .mixed import open_recipe_mixture
from .pins import pinned
from .read import read_recipe
from .stage import Stage


@frozen
class RecipeRun:
    """A recipe to run, and its output."""

    recipe: str | Path
    """A recipe file, or `-` for standard input."""
    output: str | Path
    lock: bool = False
    """Whether inputs are pinned in a lock file beside the recipe, or checked against it."""
    keep_sum: bool = False
    hub: bool = False
    """Whether OWNER/NAME is a repository of the hub where the recipe's folder has no such path."""


def run_recipe(
    run: RecipeRun, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the output of a recipe and return the result of each component.

    Raises any child of SoupError; then there is no output, or the old one. Results of materialised
    steps may exist.
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

    Raises the errors of `read_recipe` and `read_lock`, UsageError for a lock of standard input, and
    LedgerError for inputs that a lock
    lacks.
    """
    if run.lock and str(run.recipe) == STREAM:
        what = "a recipe from standard input has no lock"
        raise UsageError(what, advice="write it to a file first")
    document = read_recipe(run.recipe, hub=run.hub)
    pins = read_lock(run.recipe) if run.lock else None
    if pins is not None:
        _require_locked(document, pins)
    stages = []
    for step in document.needed:
        if step.is_materialised and step.name != document.result:
            target = _beside(run.output, step.name, document.label)
            part = replace(document, result=step.name, history={})
            stages.append(Stage(part, target, pins or {}))
            document = _with_file(document, step, target)
    return (*stages, Stage(document, run.output, pins or {}, run.keep_sum))


def close_recipe(run: RecipeRun, stages: Sequence[Stage]) -> Path | None:
    """Write the lock, if it was requested and does not exist; returns its path, or None."""
    if not run.lock or read_lock(run.recipe) is not None:
        return None
    found = {name: digests for stage in stages for name, digests in stage.found.items()}
    inputs = read_recipe(run.recipe).inputs
    return write_lock(run.recipe, {name: found[name] for name in inputs if name in found})


def _require_locked(document: RecipeDocument, pins: Lock) -> None:
    issues = [
        Issue(
            f"input {name!r} is not in the lock",
            document.label,
            advice="delete the lock file to make a new one",
        )
        for name in (*document.needed_inputs, *document.donors)
        if name not in pins
    ]
    if issues:
        raise LedgerError.collected(issues)


def _beside(output: str | Path, name: str, recipe: str) -> Path:
    """Where the result of a materialised step goes: beside the output, of its kind.

    Raises UsageError for a step whose result would have the output's own place, or none.
    """
    if str(output) == STREAM:
        what = "a materialised step needs an output that is a file or a folder"
        raise UsageError(what, advice="its result is written beside it")
    path = Path(output)
    found = path.with_name(f"{name}{path.suffix}")
    if found == path:
        what = f"step {name!r} is materialised, and its file would be the output"
        raise UsageError(what, path=recipe, advice="rename one of them")
    return found


def _with_file(document: RecipeDocument, step: RecipeStep, target: Path) -> RecipeDocument:
    """The recipe in which the result of a step has become an input."""
    steps = tuple(each for each in document.steps if each.name != step.name)
    inputs = {**document.inputs, step.name: RecipeInput(str(target))}
    return replace(document, inputs=inputs, steps=steps)


@contextmanager
def open_stage(stage: Stage) -> Iterator[Job]:
    """The pass of a stage, planned, with its inputs open.

    Raises what `open_job` and `open_application` raise, and while it is carried out LedgerError for
    an input whose content is not that of its digest in the recipe or the lock.
    """
    document = stage.document
    last = document.needed[-1].operation
    if isinstance(last, MethodStep):
        with open_by_method(last.settings, _merged(stage, last), has_base=last.has_base) as job:
            order = {name: place for place, name in enumerate(last.operands)}
            yield pinned(job, stage, [order])
        return
    names, added = _survey(document)
    inputs = document.needed_inputs
    found = compose(inputs, document.needed, names, added)
    used = [place for place in range(len(inputs)) if _counts(found, place)]
    # a base alone, which deltas were taken out of
    is_alone = isinstance(last, DifferenceStep) and not last.added and last.base in inputs
    if is_alone or any(inputs[place] in added for place in used):
        with open_recipe_mixture(stage, found, used, added) as (job, places):
            yield with_history(pinned(job, stage, places), document, places)
        return
    request = _request(stage, found, used)
    with open_job(request) as job:
        same = {inputs[place]: n for n, place in enumerate(used)}
        takes, _ = sort_takes(request.take, [as_ingredient(e).path for e in request.ingredients])
        donors = {
            name: take.donor
            for (_, name), take in zip(document.options.take, takes, strict=True)
            if take.ingredient is None
        }
        places = [same | _donor_places(each.inputs, donors) for each in job.components]
        yield with_history(pinned(job, stage, places), document, places)


def _merged(stage: Stage, step: MethodStep) -> Request:
    """The average whose place a method takes; UsageError for a sum of it."""
    if stage.keep_sum:
        what = f"{step.settings.method} makes no sum that could be kept"
        raise UsageError(what, path=stage.document.label, advice="leave out --keep-sum")
    base = (Fraction(1),) if step.has_base else ()
    pairs = zip(step.operands, (*base, *step.settings.weights), strict=True)
    inputs = stage.document.inputs
    return Request(
        ingredients=[Ingredient(inputs[name].path, weight) for name, weight in pairs],
        output=stage.output,
        dtype=stage.document.options.dtype,
    )


def _donor_places(part: ComponentInputs, donors: Mapping[str, int]) -> dict[str, int]:
    """The places of donors among the sources of a component that they give tensors to."""
    places = {each.number: n for n, each in enumerate(part.donors, len(part.checkpoints))}
    return {name: places[number] for name, number in donors.items() if number in places}


def _request(stage: Stage, found: Composition, used: Sequence[int]) -> Request:
    """The average that a composition without deltas is."""
    document, options = stage.document, stage.document.options
    names = document.needed_inputs
    paths = {name: each.path for name, each in document.inputs.items()}
    counted = [names[place] for place in used]
    if options.config_from is not None and options.config_from not in counted:
        what = f"config-from names {shortened(options.config_from)!r}, which is not an ingredient"
        advice = near(options.config_from, counted) or f"such as {shortened(counted[0])}"
        raise UsageError(what, path=document.label, advice=advice)
    return Request(
        ingredients=_ingredients(found, used, [paths[name] for name in counted]),
        output=stage.output,
        blocks=_blocks(found, used),
        dtype=options.dtype,
        keys=options.keys,
        excludes=options.excludes,
        dtype_for=options.dtype_for,
        take=tuple((glob, paths[name]) for glob, name in options.take),
        pad=options.pad,
        quantize=options.quantize,
        config_from=options.config_from and paths[options.config_from],
        on_int=options.on_int,
        on_missing=options.on_missing,
        allow_nonfinite=options.allow_nonfinite,
        component=options.component,
        variant=options.variant,
        round_weights=options.round_weights,
        keep_sum=stage.keep_sum,
        normalize=found.normalize,
    )


def _survey(document: RecipeDocument) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the tensors that the result may have, and which inputs are deltas or adapters.

    Raises what opening the inputs raises.
    """
    options = document.options
    selected = selector(Recipe((), keys=options.keys, excludes=options.excludes))
    paths = {name: document.inputs[name].path for name in document.needed_inputs}
    added = frozenset(name for name, path in paths.items() if _is_added(path))
    models = [Ingredient(path) for name, path in paths.items() if name not in added]
    if not models:
        what = "has only deltas and adapters, and no model to add them to"
        raise UsageError(what, path=document.label, advice="add a base to its inputs")
    with open_inputs(models, component=options.component, variant=options.variant) as inputs:
        names = frozenset(
            name
            for component in inputs.components
            for checkpoint in component.checkpoints
            for name in checkpoint.tensors
            if selected(name)
        )
    return names, added


def _is_added(path: str) -> bool:
    """Whether a path is that of a delta or an adapter."""
    # a pipeline of deltas has no other components
    with open_input(find_input(path).components[0]) as checkpoint:
        return is_added(checkpoint)


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
