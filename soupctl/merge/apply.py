"""Apply deltas to a base: open, plan, carry out.

Rule 1: an `Application` holds all that decides the output's bytes; threads, chunks and device are
`ExecutionOptions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..checkpoints.open import STREAM, find_input, open_input
from ..choices import OnInt
from ..errors import MismatchError, UsageError
from ..format.dtypes import DType, parse_dtype
from ..ledger.block_weights import WeightByBlock, WeightTuple
from ..workers import ExecutionOptions
from .applied_plan import Delta
from .applied_sources import delta_of
from .blocks.request import BlockWeights, ClassicBlocks, read_blocks
from .blocks.resolve import resolve_scales
from .ingredients import (
    ComponentInputs,
    Ingredient,
    Inputs,
    as_ingredient,
    open_inputs,
    require_several,
)
from .job import ComponentResult, Job
from .kept_sum.reader import Source
from .mixture import (
    BASE_WEIGHT,
    ModelsWithDeltas,
    WeighedDelta,
    aligned_models,
    planned_mixture,
    summed_deltas,
)
from .recipe import Recipe, selector
from .run import carry_out
from .sources import is_added


@dataclass(frozen=True, slots=True)
class Application:
    """Deltas to apply to a base: everything that decides the bytes, and the output."""

    base: str | Path
    deltas: Sequence[Ingredient | str | Path]
    """Each with its scale as its weight; a path is a delta of scale 1."""
    output: str | Path
    """A file, a folder, or `-` for standard output."""
    other_base: bool = False
    """Whether deltas made from other bases are allowed."""
    dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    on_int: OnInt = OnInt.REFUSE
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs with the float dtype of tensors that match; the first match counts."""
    allow_nonfinite: bool = False
    component: str | None = None
    """The component of the base, if that is a pipeline."""
    variant: str | None = None
    shard_size: int | None = None
    """Most bytes of data in one file of the output, which is then a folder."""
    ignore_ledger: bool = False
    """Whether the base is a plain checkpoint whatever its ledger says."""
    blocks: BlockWeights | ClassicBlocks | str | Path | None = None
    """Scales by block, one for each delta; a path or text stands for what `read_blocks` makes of
    it."""

    def __post_init__(self) -> None:
        """Raise UsageError if there are no deltas, or the dtype is not a float."""
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
        deltas = [open_delta(stack, each.path, part.checkpoints[0]) for each in given]
        yield _planned(application, bases, deltas, [each.weight for each in given])


def _one_part(bases: Inputs, application: Application) -> ComponentInputs:
    """The one component of the base; UsageError for a pipeline of several."""
    if len(bases.parts) > 1:
        what = f"has {len(bases.parts)} components, and a delta is of one"
        raise UsageError(what, path=application.base, advice="--component picks one")
    return bases.parts[0]


def open_delta(stack: ExitStack, path: str | Path, base: Source) -> Delta:
    """A delta or adapter, open; MismatchError for a model, LedgerError for what is not sound."""
    model = find_input(path)
    checkpoint = stack.enter_context(open_input(model.components[0]))
    if not is_added(checkpoint):
        what = "is a model, not a delta or an adapter"
        advice = "make a delta of it with soupctl delta FINE BASE"
        raise MismatchError(what, path=model.label, advice=advice)
    return delta_of(checkpoint, base)


def _planned(
    application: Application, bases: Inputs, deltas: Sequence[Delta], scales: Sequence[Fraction]
) -> Job:
    """The job that applies deltas to the one component of the base."""
    (part,) = bases.parts
    recipe = Recipe(
        weights=(),
        dtype=application.dtype,
        keys=application.keys,
        excludes=application.excludes,
        on_int=application.on_int,
        dtype_for=application.dtype_for,
        allow_nonfinite=application.allow_nonfinite,
    )
    blocks, weights = _scales_by_block(application, recipe, part, deltas, scales)
    pairs = zip(deltas, weights, strict=True)
    mixture = ModelsWithDeltas(
        models=(BASE_WEIGHT,),
        deltas=summed_deltas([WeighedDelta(*pair) for pair in pairs]),
        blocks=blocks,
        recipe=recipe,
        output=application.output,
        other_base=application.other_base,
        variant=application.variant,
        shard_size=application.shard_size,
    )
    return planned_mixture(mixture, bases, aligned_models(part, recipe))


def _scales_by_block(
    application: Application,
    recipe: Recipe,
    part: ComponentInputs,
    deltas: Sequence[Delta],
    scales: Sequence[Fraction],
) -> tuple[tuple[str, ...], list[WeightByBlock]]:
    """The globs of the blocks that are asked for, and the scale of each delta by block."""
    asked = application.blocks
    if asked is None:
        return (), [WeightByBlock(Fraction(scale)) for scale in scales]
    if isinstance(asked, str | Path):
        asked = read_blocks(asked)
    base = part.checkpoints[0]
    names = frozenset(filter(selector(recipe), base.tensors))
    labels = [each.label for each in deltas]
    found = resolve_scales(asked, base.label, labels, tuple(scales), names)
    columns = zip(*(weights for _, weights in found.blocks), strict=True)
    by_block: list[WeightTuple] = list(columns) or [()] * len(deltas)
    return tuple(glob for glob, _ in found.blocks), [
        WeightByBlock(Fraction(usual), tuple(map(Fraction, blocks)))
        for usual, blocks in zip(found.default, by_block, strict=True)
    ]
