"""Apply deltas to a base: open, plan, carry out.

Rule 1: an `Application` holds all that decides the output's bytes; threads, chunks and device are
`ExecutionOptions`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.open import STREAM, find_input, open_input
from ..choices import OnInt
from ..errors import Issue, LedgerError, MismatchError, UsageError
from ..format.dtypes import DType, parse_dtype
from ..ledger.names import unique_names
from ..ledger.read import is_delta
from ..lora.modules import is_adapter
from ..workers import ExecutionOptions
from .applied_ledger import OTHER_BASE, complete_applied, draft_applied
from .applied_plan import Delta, plan_applied
from .applied_sources import delta_of
from .delta.reader import DeltaReader
from .destination import decide
from .facts import facts_of_source
from .ingredients import (
    ComponentInputs,
    Ingredient,
    Inputs,
    as_ingredient,
    open_inputs,
    require_several,
)
from .job import ComponentJob, ComponentResult, Job
from .recipe import Recipe, require_matches
from .run import carry_out
from .settings import require_same_settings


@dataclass(frozen=True, slots=True)
class Application:
    """Deltas to apply to a base: everything that decides the bytes, and the output."""

    base: str | Path
    deltas: Sequence[Ingredient | str | Path]
    """Each with its scale as its weight; a path is a delta of scale 1."""
    output: str | Path
    """A file, a folder, or `-` for standard output."""
    other_base: bool = False
    """Whether deltas of other bases are applied too."""
    dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    on_int: OnInt = OnInt.REFUSE
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs, each with the float dtype of the tensors that it is the first to match."""
    allow_nonfinite: bool = False
    component: str | None = None
    """The component of the base, if that is a pipeline."""
    variant: str | None = None
    shard_size: int | None = None
    """Most bytes of data in one file of the output, which is then a folder."""
    ignore_ledger: bool = False
    """Whether the base is a plain checkpoint whatever its ledger says."""

    def __post_init__(self) -> None:
        """Refuse no deltas, and a dtype that is no float, with UsageError."""
        require_several("deltas", self.deltas)
        if not self.deltas:
            raise UsageError("no deltas are given", advice="name at least one")
        for dtype in filter(None, (self.dtype, *(dtype for _, dtype in self.dtype_for))):
            parse_dtype(dtype.value)


def apply(
    application: Application, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the soup and return its result; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_application(application) as job:
        return carry_out(job, force=force, execution=execution)


@contextmanager
def open_application(application: Application) -> Iterator[Job]:
    """The application with its base and deltas opened, checked and planned.

    Raises MismatchError for deltas that do not fit the base or each other.
    """
    given = [as_ingredient(each) for each in application.deltas]
    if [application.base, *(each.path for each in given)].count(STREAM) > 1:
        raise UsageError("standard input can be only one of the inputs")
    with (
        open_inputs(
            [Ingredient(application.base)],
            component=application.component,
            variant=application.variant,
            ignore_ledger=application.ignore_ledger,
        ) as bases,
        ExitStack() as stack,
    ):
        part = _one_part(bases, application)
        deltas = _summed([(_open_delta(stack, each.path, part), each.weight) for each in given])
        yield _planned(application, bases, part, deltas)


def _one_part(bases: Inputs, application: Application) -> ComponentInputs:
    """The one component of the base; UsageError for a pipeline of several."""
    if len(bases.parts) > 1:
        what = f"has {len(bases.parts)} components, and a delta is of one"
        raise UsageError(what, path=application.base, advice="--component picks one")
    return bases.parts[0]


def _open_delta(stack: ExitStack, path: str | Path, base: ComponentInputs) -> Delta:
    """A delta or adapter, open; MismatchError for a model, LedgerError for what is not sound."""
    model = find_input(path)
    checkpoint = stack.enter_context(open_input(model.components[0]))
    if not is_delta(checkpoint) and not is_adapter(checkpoint.tensors):
        what = "is a model, not a delta or an adapter"
        advice = "soupctl delta FINE BASE makes one of it"
        raise MismatchError(what, path=model.label, advice=advice)
    return delta_of(checkpoint, base.checkpoints[0])


def _summed(
    deltas: Sequence[tuple[Delta, Fraction]],
) -> dict[str, tuple[Delta, Fraction]]:
    """The deltas by content digest, those of one content as one; UsageError if they cancel."""
    found: dict[str, tuple[Delta, Fraction]] = {}
    for each, scale in deltas:
        known = each.ledger
        root = checkpoint_digest(each.checkpoint) if known is None else known.root
        if root in found and checkpoint_digest(each.checkpoint) != root:
            # of the same content only the first is read
            raise LedgerError("its ledger does not match its tensors", path=each.label)
        first, sum_ = found.get(root, (each, Fraction(0)))
        found[root] = (first, sum_ + Fraction(scale))
    for each, scale in found.values():
        if not scale:
            what = "is given more than once, with scales that cancel, or with a scale of zero"
            raise UsageError(what, path=each.label, advice="leave it out")
    return found


def _planned(
    application: Application,
    bases: Inputs,
    alone: ComponentInputs,
    found: dict[str, tuple[Delta, Fraction]],
) -> Job:
    """The job that applies deltas to the one component of the base."""
    deltas = [each for each, _ in found.values()]
    scales = [scale for _, scale in found.values()]
    base = alone.checkpoints[0]
    differences = [each for each in deltas if isinstance(each, DeltaReader)]
    if not application.other_base:
        _require_one_base(differences)
    if len(deltas) == len(differences) == 1 and scales == [1]:
        of = differences[0].ledger.base
        # without --other-base, the pass refuses another one
        if not application.other_base or checkpoint_digest(base) == of:
            differences = [differences[0].giving_fine()]
            deltas = [*differences]
    recipe = Recipe(
        weights=(Fraction(1), *scales),
        dtype=application.dtype,
        keys=application.keys,
        excludes=application.excludes,
        on_int=application.on_int,
        dtype_for=application.dtype_for,
        allow_nonfinite=application.allow_nonfinite,
    )
    if recipe.keys or recipe.excludes or recipe.dtype_for:
        require_matches(recipe, base.tensors)
    plan = plan_applied(recipe, base, deltas, facts_of_source(base))
    part = ComponentInputs(
        alone.name,
        (base, *(each.checkpoint for each in deltas)),
        (alone.ledgers[0], *(each.ledger for each in deltas)),
        alone.layout,
    )
    require_same_settings((base, *(each.checkpoint for each in differences)))
    destination = decide(
        application.output, bases, [plan], application.shard_size, application.variant
    )
    (files,) = destination.components
    labels = [bases.models[0].label, *(each.label for each in deltas)]
    draft = draft_applied(recipe, _names(part), part, plan, destination.folder_of(files))
    complete = partial(
        complete_applied, draft, part, differences, 0, other_base=application.other_base
    )
    job = ComponentJob(part, plan, files, draft, complete, (base, *deltas))
    inputs = Inputs(bases.models, (part,))
    weights = tuple(zip(labels, recipe.weights, strict=True))
    return Job(weights, inputs, destination, (job,), divisor=Fraction(1))


def _require_one_base(deltas: Sequence[DeltaReader]) -> None:
    """Raise MismatchError for deltas of different bases, by their ledgers."""
    issues = [
        Issue(f"is a delta of another base than {deltas[0].label}", each.label, advice=OTHER_BASE)
        for each in deltas[1:]
        if each.ledger.base != deltas[0].ledger.base
    ]
    if issues:
        raise MismatchError.collected(issues)


def _names(part: ComponentInputs) -> tuple[str, ...]:
    """How the ledger calls the base and the deltas."""
    paths = [
        os.path.abspath(each.component.path) if each.component.files else each.label
        for each in part.checkpoints
    ]
    return unique_names(paths)
