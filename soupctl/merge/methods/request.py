"""Merge models by a method that is not a weighted mean: open, plan, carry out.

Rule 1: a `MergeRequest` holds all that decides the output's bytes; threads, chunks and device are
`ExecutionOptions`.
Rule 2: inputs, plan and files are those of an average; the method takes the place of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from ...choices import MergeMethod, OnInt
from ...errors import UsageError
from ...format.dtypes import DType
from ...frozen import frozen
from ...methods.settings import TAKES, MethodSettings
from ...workers import ExecutionOptions
from ..average import Request, planned_average
from ..ingredients import Ingredient, as_ingredient, open_inputs, require_several
from ..job import ComponentJob, ComponentResult, Job
from ..run import carry_out
from .record import complete_merge, draft_merge, require_rows


@frozen
class MergeRequest:
    """Models to merge by a method: everything that decides the bytes, and the output."""

    method: MergeMethod
    ingredients: Sequence[Ingredient | str | Path]
    """A path is a model of weight 1."""
    output: str | Path
    """A file, a folder, or `-` for standard output."""
    base: str | Path | None = None
    """The model that the others were fine-tuned from, for methods that need it."""
    densities: Sequence[Fraction] = ()
    """Share of the differences that is kept: one for all models, or one for each."""
    scale: Fraction | None = None
    """The factor, called lambda, of the merged differences; None for 1."""
    gamma: Fraction | None = None
    """Share of the largest differences that breadcrumbs leaves out; None for 0.01."""
    epsilon: Fraction | None = None
    """Range of the probabilities of della; None for 0.1."""
    seed: int | None = None
    """The seed of the random numbers of dare and della; None for 0."""
    elect: bool | None = None
    """Whether signs are elected; None as the method's paper does."""
    normalize: bool | None = None
    """Whether differences are averaged, not added; None as the method's paper does."""
    dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    on_int: OnInt = OnInt.REFUSE
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs with the float dtype of merged tensors that match; the first match counts."""
    component: str | None = None
    variant: str | None = None
    shard_size: int | None = None
    """Most bytes of data in one file of the output, which is then a folder."""
    ignore_ledger: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for a base, or a setting, that the method needs or does not take."""
        require_several("ingredients", self.ingredients)
        taken = TAKES[self.method]
        if taken.base and self.base is None:
            what = f"{self.method} needs the model that the others were fine-tuned from"
            raise UsageError(what, advice="give it with --base")
        if taken.density and not self.densities:
            what = f"{self.method} needs the share of the differences to keep"
            raise UsageError(what, advice="such as --density 0.2")
        given = {
            "--base": (self.base, taken.base),
            "--density": (tuple(self.densities) or None, taken.density),
            "--lambda": (self.scale, taken.density),
            "--gamma": (self.gamma, taken.gamma),
            "--epsilon": (self.epsilon, taken.epsilon),
            "--seed": (self.seed, taken.seed),
            "--elect": (self.elect, taken.density),
            "--normalize": (self.normalize, taken.density),
        }
        for option, (value, is_taken) in given.items():
            if value is not None and not is_taken:
                raise UsageError(f"{self.method} takes no {option}", advice="leave it out")

    @property
    def settings(self) -> MethodSettings:
        """The settings of the method; UsageError for those that it cannot work with."""
        taken = TAKES[self.method]
        models = [as_ingredient(each) for each in self.ingredients]
        densities = tuple(self.densities)
        return MethodSettings(
            self.method,
            tuple(Fraction(each.weight) for each in models),
            densities * len(models) if len(densities) == 1 else densities,
            Fraction(1) if self.scale is None else self.scale,
            _or(self.gamma, Fraction(1, 100), taken.gamma),
            _or(self.epsilon, Fraction(1, 10), taken.epsilon),
            self.seed or 0,
            taken.elect if self.elect is None else self.elect,
            taken.normalize if self.normalize is None else self.normalize,
        )


def _or(given: Fraction | None, usual: Fraction, is_taken: bool) -> Fraction:
    return (usual if given is None else given) if is_taken else Fraction(0)


def merge(
    request: MergeRequest, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Merge the models and return the result; `force` replaces an existing output.

    Raises any child of SoupError; then there is no output, or the old one, and no trace.
    """
    with open_merge(request) as job:
        return carry_out(job, force=force, execution=execution)


@contextmanager
def open_merge(request: MergeRequest) -> Iterator[Job]:
    """The request with its inputs opened, checked and planned.

    Raises UsageError for pipelines of several components, and what `open_job` raises.
    """
    models = [as_ingredient(each) for each in request.ingredients]
    bases = [] if request.base is None else [Ingredient(request.base)]
    average = _as_average(request, bases, models)
    with open_by_method(request.settings, average, has_base=bool(bases)) as job:
        yield job


@contextmanager
def open_by_method(settings: MethodSettings, average: Request, *, has_base: bool) -> Iterator[Job]:
    """An average with a method in place of the mean; its first ingredient may be the base."""
    models = [as_ingredient(each) for each in average.ingredients]
    with open_inputs(
        models,
        component=average.component,
        variant=average.variant,
        ignore_ledger=average.ignore_ledger,
    ) as inputs:
        if len(inputs.components) > 1:
            what = f"{settings.method} merges one model, and these are pipelines of several"
            raise UsageError(what, advice="pick one of the components with --component")
        job = planned_average(average, models, inputs)
        jobs = tuple(_component(each, settings, has_base) for each in job.components)
        added = frozenset(range(1, len(job.weights))) if has_base else frozenset()
        yield replace(job, components=jobs, added=added)


def _as_average(
    request: MergeRequest, bases: Sequence[Ingredient], models: Sequence[Ingredient]
) -> Request:
    """The average with the same inputs, tensors and files."""
    return Request(
        ingredients=[*bases, *models],
        output=request.output,
        dtype=request.dtype,
        keys=request.keys,
        excludes=request.excludes,
        on_int=request.on_int,
        dtype_for=request.dtype_for,
        component=request.component,
        variant=request.variant,
        shard_size=request.shard_size,
        ignore_ledger=request.ignore_ledger,
    )


def _component(mean: ComponentJob, settings: MethodSettings, has_base: bool) -> ComponentJob:
    """The job of a mean with the method in its place."""
    plan = replace(mean.plan, method=settings)
    require_rows(plan)
    draft = draft_merge(mean.draft, plan, settings, has_base)
    complete = partial(complete_merge, mean.complete, draft, settings, has_base)
    added = (False, *(True for _ in settings.weights)) if has_base else ()
    return replace(mean, plan=plan, draft=draft, complete=complete, added=added)
