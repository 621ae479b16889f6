"""Average checkpoints into a soup: open, plan, carry out.

Rule 1: a `Request` holds all that decides the output's bytes; how fast it comes about is a `Pace`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..format.dtypes import DType, parse_dtype
from ..pace import Pace
from ..soup.choices import OnInt
from ..soup.plan import make_plan
from ..soup.recipe import Recipe
from .inputs import Ingredient, open_inputs
from .job import Job, Made, Work, carry_out
from .record import complete_average, draft_average, ingredient_names
from .target import decide


@dataclass(frozen=True, slots=True)
class Request:
    """A soup to be made: everything that decides its bytes, and where it goes."""

    ingredients: Sequence[Ingredient]
    output: str | Path
    """A file, a folder, or `-` for standard output."""
    dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    on_int: OnInt = OnInt.REFUSE
    allow_nonfinite: bool = False
    component: str | None = None
    variant: str | None = None
    shard_size: int | None = None
    """Most bytes of data in one file of the output, which is then a folder."""
    ignore_ledger: bool = False

    def __post_init__(self) -> None:
        """Refuse a dtype that is no float, with UsageError."""
        if self.dtype is not None:
            parse_dtype(self.dtype.value)


def average(request: Request, *, force: bool = False, pace: Pace | None = None) -> tuple[Made, ...]:
    """Make the soup and return what each component became; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_job(request) as job:
        return carry_out(job, force=force, pace=pace)


@contextmanager
def open_job(request: Request) -> Iterator[Job]:
    """The request with its inputs opened, checked and planned; no data has been read yet."""
    recipe = Recipe(
        weights=tuple(ingredient.weight for ingredient in request.ingredients),
        dtype=request.dtype,
        keys=request.keys,
        excludes=request.excludes,
        on_int=request.on_int,
        allow_nonfinite=request.allow_nonfinite,
    )
    with open_inputs(
        request.ingredients,
        component=request.component,
        variant=request.variant,
        ignore_ledger=request.ignore_ledger,
    ) as inputs:
        shown = [model.shown for model in inputs.models]
        names = ingredient_names(inputs)
        plans = [
            make_plan(
                recipe,
                [checkpoint.shown for checkpoint in part.checkpoints],
                [checkpoint.tensors for checkpoint in part.checkpoints],
            )
            for part in inputs.parts
        ]
        destination = decide(request.output, inputs, plans, request.shard_size, request.variant)
        works = []
        for part, plan, share in zip(inputs.parts, plans, destination.shares, strict=True):
            draft = draft_average(recipe, names, part, plan, destination.folder_of(share))
            complete = partial(complete_average, draft, part)
            works.append(Work(part, plan, share, draft, complete).sized())
        weights = tuple(zip(shown, recipe.weights, strict=True))
        yield Job(weights, inputs, destination, tuple(works))
