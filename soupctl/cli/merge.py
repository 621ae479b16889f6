"""`soupctl merge`: merges models by a method that is not a weighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import MergeMethod, OnInt
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.weights import parse_number
from ..storage.sizes import parse_size
from . import options
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, make, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import Ingredient, MergeRequest


@frozen
class MethodOptions:
    """Options of `merge` besides those of every command that makes a soup."""

    base: Annotated[
        str | None,
        typer.Option(help="The model that the inputs were fine-tuned from.", metavar="FILE"),
        CHECKPOINTS,
    ] = None
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help="Weights in order, such as 2,1,1/3.", metavar="W,..."),
    ] = None
    density: Annotated[
        str | None,
        typer.Option(
            help="Share of the differences from the base to keep: one for all inputs, or for each.",
            metavar="D,...",
        ),
    ] = None
    scale: Annotated[
        str | None,
        typer.Option(
            "--lambda", help="Multiply the merged differences by this.  [default: 1]", metavar="L"
        ),
    ] = None
    gamma: Annotated[
        str | None,
        typer.Option(
            help="Share of the differences, the largest, that breadcrumbs drops.  [default: 0.01]",
            metavar="G",
        ),
    ] = None
    epsilon: Annotated[
        str | None,
        typer.Option(
            help="Range of the probabilities with which della drops.  [default: 0.1]", metavar="E"
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the random numbers of dare and della.  [default: 0]", metavar="N"
        ),
    ] = None
    elect: Annotated[
        bool | None,
        typer.Option("--elect/--no-elect", help="Count only differences of the elected sign."),
    ] = None
    normalize: Annotated[
        bool | None,
        typer.Option(
            "--normalize/--no-normalize",
            help="Divide merged differences by the weights that count.",
        ),
    ] = None
    dtype: options.Dtype = None
    key: options.Key = None
    exclude: options.Exclude = None
    dtype_for: options.DtypeFor = None
    component: options.Component = None
    variant: options.Variant = None
    shard_size: options.ShardSize = None
    on_int: options.OnInts = OnInt.REFUSE
    ignore_ledger: options.IgnoreLedger = False

    def request(
        self, method: MergeMethod, models: Sequence[Ingredient], output: str
    ) -> MergeRequest:
        """The merge of these models; UsageError for malformed options."""
        from ..format.dtypes import parse_dtype
        from ..verbs import MergeRequest

        dtypes = options.pairs(self.dtype_for, "--dtype-for")
        return MergeRequest(
            method=method,
            ingredients=models,
            output=output,
            base=None if self.base is None else options.named(self.base),
            densities=() if self.density is None else _numbers(self.density, "--density"),
            scale=_number(self.scale, "--lambda"),
            gamma=_number(self.gamma, "--gamma"),
            epsilon=_number(self.epsilon, "--epsilon"),
            seed=self.seed,
            elect=self.elect,
            normalize=self.normalize,
            dtype=None if self.dtype is None else parse_dtype(self.dtype),
            keys=tuple(self.key or ()),
            excludes=tuple(self.exclude or ()),
            on_int=self.on_int,
            dtype_for=tuple((glob, parse_dtype(name)) for glob, name in dtypes),
            component=self.component,
            variant=self.variant,
            shard_size=parse_size(self.shard_size, "--shard-size"),
            ignore_ledger=self.ignore_ledger,
        )


@with_option_groups
def merge(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Models: files or folders, each with an optional @WEIGHT.", metavar="INPUT..."
        ),
        CHECKPOINTS,
    ],
    method: Annotated[
        MergeMethod,
        typer.Option(
            help="ties, dare, della, breadcrumbs, model-stock, slerp, karcher or geometric-median.",
            metavar="METHOD",
        ),
    ],
    output: options.Output = None,
    *,
    asked: MethodOptions,
    merge: MergeOptions,
) -> None:
    """Merge models by a method that is not a weighted mean, such as TIES.

    Ingredients cannot be taken out of such a soup. It is approximate, except with model-stock,
    which makes an exact mean. The same inputs and options give the same bytes, with any number of
    threads.

    Example: soupctl merge a.safetensors b.safetensors --base base.safetensors --method ties
    --density 0.2 -o merged.safetensors
    """
    output = require_output(output, merge)
    models = options.read_inputs(inputs, asked.weights, None, False)
    from .. import verbs

    make(verbs.open_merge(asked.request(method, models, output)), output, merge)


def _number(text: str | None, option: str) -> Fraction | None:
    return None if text is None else _parsed(text, option)


def _numbers(text: str, option: str) -> tuple[Fraction, ...]:
    return tuple(_parsed(each.strip(), option) for each in text.split(","))


def _parsed(text: str, option: str) -> Fraction:
    """The number in a text. Raises UsageError, which names the option, if it is not a number."""
    try:
        return parse_number(text)
    except UsageError as error:
        what = error.issues[0].what.replace("a weight", "a number")
        raise UsageError(f"{option}: {what}", advice=error.issues[0].advice) from None
