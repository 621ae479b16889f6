"""Apply deltas to a base: open, plan, carry out.

Rule 1: an `Application` holds all that decides the output's bytes; threads, chunks and device are
`ExecutionOptions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

from ..checkpoints.open import STREAM
from ..choices import OnInt
from ..errors import UsageError
from ..format.dtypes import DType, parse_dtype
from ..frozen import frozen
from ..ledger.block_weights import WeightByBlock, WeightTuple
from ..workers import ExecutionOptions
from .blocks.request import BlockWeights, ClassicBlocks, read_blocks
from .blocks.resolve import resolve_scales
from .given_deltas import Bases, GivenDelta, open_delta
from .ingredients import (
    Ingredient,
    as_ingredient,
    open_inputs,
    require_several,
)
from .job import ComponentResult, Job
from .kept_sum.opened import require_keepable
from .mixture import (
    BASE_WEIGHT,
    aligned_models,
    bases_of,
    planned_mixture,
)
from .recipe import Recipe, selector
from .run import carry_out
from .scaled_deltas import ModelsWithDeltas


@frozen
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
    keep_sum: bool = False
    """Whether the exact sum is kept beside the soup, for `add`, `subtract` and `swap`."""

    def __post_init__(self) -> None:
        """Raise UsageError if there are no deltas, the dtype is not a float, or for some sums."""
        require_several("deltas", self.deltas)
        if not self.deltas:
            raise UsageError("no deltas are given", advice="name at least one")
        for dtype in filter(None, (self.dtype, *(dtype for _, dtype in self.dtype_for))):
            parse_dtype(dtype.value)
        if self.keep_sum:
            require_keepable(self.output, self.allow_nonfinite)


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
        ) as inputs,
        ExitStack() as stack,
    ):
        recipe = _recipe(application)
        alignments = aligned_models(inputs, recipe)
        bases = bases_of(inputs, alignments, application.component)
        deltas = [open_delta(stack, each.path, bases) for each in given]
        usual = [Fraction(each.weight) for each in given]
        blocks, scales = _scales_by_block(application, recipe, bases, deltas, usual)
        mixture = ModelsWithDeltas(
            models=(BASE_WEIGHT,),
            deltas=deltas,
            scales=scales,
            blocks=blocks,
            recipe=recipe,
            output=application.output,
            other_base=application.other_base,
            variant=application.variant,
            shard_size=application.shard_size,
            keep_sum=application.keep_sum,
        )
        yield planned_mixture(mixture, inputs, alignments)


def _recipe(application: Application) -> Recipe:
    """What is asked for but the weights."""
    return Recipe(
        weights=(),
        dtype=application.dtype,
        keys=application.keys,
        excludes=application.excludes,
        on_int=application.on_int,
        dtype_for=application.dtype_for,
        allow_nonfinite=application.allow_nonfinite,
    )


def _scales_by_block(
    application: Application,
    recipe: Recipe,
    bases: Bases,
    deltas: Sequence[GivenDelta],
    scales: Sequence[Fraction],
) -> tuple[tuple[str, ...], list[WeightByBlock]]:
    """The globs of the blocks that are asked for, and the scale of each delta by block."""
    asked = application.blocks
    if asked is None:
        return (), list(map(WeightByBlock, scales))
    if isinstance(asked, str | Path):
        asked = read_blocks(asked)
    every = (name for source in bases.sources for name in source.tensors)
    names = frozenset(filter(selector(recipe), every))
    labels = [each.label for each in deltas]
    found = resolve_scales(asked, bases.label, labels, tuple(scales), names)
    columns = zip(*(weights for _, weights in found.blocks), strict=True)
    by_block: list[WeightTuple] = list(columns) or [()] * len(deltas)
    return tuple(glob for glob, _ in found.blocks), [
        WeightByBlock(Fraction(usual), tuple(map(Fraction, blocks)))
        for usual, blocks in zip(found.default, by_block, strict=True)
    ]
