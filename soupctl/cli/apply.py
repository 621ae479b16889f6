"""`soupctl apply`: adds deltas and adapters to a base, each times its scale."""

from __future__ import annotations

from typing import Annotated

import typer

from ..choices import OnInt
from . import options
from .merge_output import MergeOptions, make, require_output
from .option_groups import with_option_groups


@with_option_groups
def apply(
    base: Annotated[
        str, typer.Argument(help="The base checkpoint that they are added to.", metavar="BASE")
    ],
    deltas: Annotated[
        list[str],
        typer.Argument(
            help="Deltas, LoRAs, LoHas or LoKrs, each with an optional @SCALE.", metavar="DELTA..."
        ),
    ],
    output: options.Output = None,
    blocks: options.ScalesByBlock = None,
    other_base: Annotated[
        bool,
        typer.Option("--other-base", help="Also apply deltas that were made from another base."),
    ] = False,
    dtype: options.Dtype = None,
    key: options.Key = None,
    exclude: options.Exclude = None,
    dtype_for: options.DtypeFor = None,
    component: options.Component = None,
    variant: options.Variant = None,
    shard_size: options.ShardSize = None,
    on_int: options.OnInts = OnInt.REFUSE,
    allow_nonfinite: options.AllowNonfinite = False,
    ignore_ledger: options.IgnoreLedger = False,
    *,
    merge: MergeOptions,
) -> None:
    """Add deltas, LoRAs and their like to a base, each times its scale, exactly.

    One delta of scale 1 on its own base gives back the checkpoint that it was made of; a scale of
    -1 takes away what the fine-tuning did. The names of an adapter may be kohya's, PEFT's or
    ComfyUI's, and those of the base diffusers' or its first authors'.

    Example: soupctl apply base.safetensors cats.delta@0.7 style.safetensors@0.4 -o out.safetensors
    """
    output = require_output(output, merge)
    given = options.read_inputs(deltas, None, None, False)
    from .. import verbs
    from ..format.dtypes import parse_dtype

    application = verbs.Application(
        base=options.named(base),
        deltas=given,
        output=output,
        other_base=other_base,
        dtype=None if dtype is None else parse_dtype(dtype),
        keys=tuple(key or ()),
        excludes=tuple(exclude or ()),
        on_int=on_int,
        dtype_for=tuple(
            (glob, parse_dtype(name)) for glob, name in options.pairs(dtype_for, "--dtype-for")
        ),
        allow_nonfinite=allow_nonfinite,
        component=component,
        variant=variant,
        shard_size=options.parse_size(shard_size, "--shard-size"),
        ignore_ledger=ignore_ledger,
        blocks=None if blocks is None else verbs.read_blocks(blocks),
    )
    make(verbs.open_application(application), output, merge)
