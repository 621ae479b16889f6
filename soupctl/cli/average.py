"""`soupctl avg`: averages checkpoints into a soup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import OnInt, OnMissing, Quantization, WeightBy
from ..errors import UsageError
from ..frozen import frozen
from ..storage.sizes import parse_size
from . import options
from .hub_option import CHECKPOINTS, Hub, NamesCheckpoints
from .merge_output import MergeOptions, make_on, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import Ingredient, Request


@frozen
class AverageOptions:
    """Options of `avg` besides those of every command that makes a soup."""

    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help="Weights in order, such as 2,1,1/3.", metavar="W,..."),
    ] = None
    weight_by: Annotated[
        WeightBy | None,
        typer.Option(help="Take weights from the training records of the inputs."),
    ] = None
    round_weights: options.RoundWeights = None
    blocks: options.Blocks = None
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Make a soup for each share of the second input; the output's name contains {t}.",
            metavar="START:STOP:STEP",
        ),
    ] = None
    part: Annotated[
        str | None,
        typer.Option(
            help="Make one part of the soup, which soupctl commit joins; such as 1/4.",
            metavar="I/N",
        ),
    ] = None
    ray: options.Ray = None
    dtype: options.Dtype = None
    quantize: Annotated[
        Quantization | None,
        typer.Option(help="Store the weights of linear layers in eight bits, for ComfyUI."),
    ] = None
    key: options.Key = None
    exclude: options.Exclude = None
    dtype_for: options.DtypeFor = None
    take: Annotated[
        list[str] | None,
        typer.Option(
            help="Copy tensors whose names match from an input or another file, unaveraged.",
            metavar="GLOB=FILE",
        ),
        NamesCheckpoints(after="="),
    ] = None
    pad: Annotated[
        list[str] | None,
        typer.Option(
            help="Pad tensors whose names match with zero input channels, up to the widest.",
            metavar="GLOB",
        ),
    ] = None
    on_missing: Annotated[
        OnMissing, typer.Option(help="What to do with tensors that not all inputs have.")
    ] = OnMissing.REFUSE
    component: options.Component = None
    variant: options.Variant = None
    shard_size: options.ShardSize = None
    on_int: options.OnInts = OnInt.REFUSE
    allow_nonfinite: options.AllowNonfinite = False
    ignore_ledger: options.IgnoreLedger = False
    check_blobs: Annotated[
        bool,
        typer.Option(
            "--check-blobs",
            help="Check the SHA-256 of files in the Hugging Face cache against their names.",
        ),
    ] = False
    config_from: options.ConfigFrom = None
    keep_sum: options.KeepSum = False
    files_from: Annotated[
        str | None,
        typer.Option(help="Read more inputs from a file, or - for stdin.", metavar="FILE"),
    ] = None
    null: Annotated[bool, typer.Option("-0", help="Names in --files-from end with NUL.")] = False
    hub: Hub = False

    def request(self, ingredients: Sequence[Ingredient], output: str) -> Request:
        """The average of these ingredients; UsageError for malformed options."""
        from ..format.dtypes import parse_dtype
        from ..verbs import Request, read_blocks

        dtypes = options.pairs(self.dtype_for, "--dtype-for")
        return Request(
            ingredients=ingredients,
            output=output,
            dtype=None if self.dtype is None else parse_dtype(self.dtype),
            quantize=self.quantize,
            keys=tuple(self.key or ()),
            excludes=tuple(self.exclude or ()),
            on_int=self.on_int,
            on_missing=self.on_missing,
            dtype_for=tuple((glob, parse_dtype(name)) for glob, name in dtypes),
            take=options.pairs(self.take, "--take"),
            pad=tuple(self.pad or ()),
            allow_nonfinite=self.allow_nonfinite,
            component=self.component,
            variant=self.variant,
            shard_size=parse_size(self.shard_size, "--shard-size"),
            ignore_ledger=self.ignore_ledger,
            check_blobs=self.check_blobs,
            config_from=self.config_from,
            keep_sum=self.keep_sum,
            round_weights=self.round_weights,
            blocks=None if self.blocks is None else read_blocks(self.blocks),
        )


@with_option_groups
def average(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoints: files, folders or - for stdin, each with an optional @WEIGHT.",
            metavar="INPUT...",
        ),
        CHECKPOINTS,
    ] = None,
    output: options.Output = None,
    *,
    asked: AverageOptions,
    merge: MergeOptions,
) -> None:
    """Average checkpoints into a soup, exactly.

    Example: soupctl avg a.safetensors b.safetensors@2 -o soup.safetensors
    """
    output = require_output(output, merge)
    ingredients = options.read_inputs(
        inputs or [], asked.weights, asked.files_from, asked.null, asked.hub
    )
    from .. import verbs

    if asked.weight_by is not None:
        if asked.weights is not None:
            raise UsageError("-w and --weight-by both give weights", advice="use one of them")
        ingredients = verbs.weighted_by(
            ingredients, asked.weight_by, component=asked.component, variant=asked.variant
        )
    request = asked.request(ingredients, output)
    _require_one_way(asked)
    if asked.part is not None:
        from .parts import make_one_part

        make_one_part(request, asked.part, output, merge)
        return
    if asked.sweep is None:
        make_on(asked.ray, verbs.open_job, request, output, merge)
        return
    from .several_soups import sweep as make_sweep

    make_sweep(verbs.Sweep(request, verbs.parse_range(asked.sweep)), merge)


def _require_one_way(asked: AverageOptions) -> None:
    """Raise UsageError for options that make the soup in several ways."""
    ways = {"--part": asked.part, "--ray": asked.ray, "--sweep": asked.sweep}
    first, *others = [option for option, value in ways.items() if value is not None] or [""]
    if others:
        raise UsageError(f"{first} and {others[0]} exclude each other", advice="use one of them")
