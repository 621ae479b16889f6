"""`soupctl apply`: adds deltas and adapters to a base, each times its scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import OnInt
from ..frozen import frozen
from ..storage.sizes import parse_size
from . import options
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, make_on, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import Application, Ingredient


@frozen
class ApplyOptions:
    """Options of `apply` besides those of every command that makes a soup."""

    blocks: options.ScalesByBlock = None
    other_base: Annotated[
        bool,
        typer.Option("--other-base", help="Also apply deltas that were made from another base."),
    ] = False
    dtype: options.Dtype = None
    key: options.Key = None
    exclude: options.Exclude = None
    dtype_for: options.DtypeFor = None
    component: options.Component = None
    variant: options.Variant = None
    shard_size: options.ShardSize = None
    on_int: options.OnInts = OnInt.REFUSE
    allow_nonfinite: options.AllowNonfinite = False
    ignore_ledger: options.IgnoreLedger = False
    keep_sum: options.KeepSum = False
    ray: options.Ray = None

    def application(self, base: str, deltas: Sequence[Ingredient], output: str) -> Application:
        """The sum of a base and deltas; UsageError for malformed options."""
        from ..format.dtypes import parse_dtype
        from ..verbs import Application, read_blocks

        dtypes = options.pairs(self.dtype_for, "--dtype-for")
        return Application(
            base=base,
            deltas=deltas,
            output=output,
            other_base=self.other_base,
            dtype=None if self.dtype is None else parse_dtype(self.dtype),
            keys=tuple(self.key or ()),
            excludes=tuple(self.exclude or ()),
            on_int=self.on_int,
            dtype_for=tuple((glob, parse_dtype(name)) for glob, name in dtypes),
            allow_nonfinite=self.allow_nonfinite,
            component=self.component,
            variant=self.variant,
            shard_size=parse_size(self.shard_size, "--shard-size"),
            ignore_ledger=self.ignore_ledger,
            keep_sum=self.keep_sum,
            blocks=None if self.blocks is None else read_blocks(self.blocks),
        )


@with_option_groups
def apply(
    base: Annotated[
        str,
        typer.Argument(help="The base checkpoint that they are added to.", metavar="BASE"),
        CHECKPOINTS,
    ],
    deltas: Annotated[
        list[str],
        typer.Argument(
            help="Deltas, LoRAs, LoHas or LoKrs, each with an optional @SCALE.", metavar="DELTA..."
        ),
        CHECKPOINTS,
    ],
    output: options.Output = None,
    *,
    asked: ApplyOptions,
    merge: MergeOptions,
) -> None:
    """Add deltas, LoRAs and similar adapters to a base, each times its scale, exactly.

    A single delta with scale 1 on its own base gives back the fine-tuned checkpoint; a scale of -1
    moves the base in the opposite direction. Adapters may have the names of kohya, PEFT or ComfyUI,
    and bases those of diffusers or of the original release.

    Example: soupctl apply base.safetensors cats.delta@0.7 style.safetensors@0.4 -o out.safetensors
    """
    output = require_output(output, merge)
    given = options.read_inputs(deltas, None, None, False)
    from .. import verbs

    application = asked.application(options.named(base), given, output)
    make_on(asked.ray, verbs.open_application, application, output, merge)
