"""`soupctl lora extract`: makes a LoRA of a fine-tuned checkpoint and its base."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import LoraTask
from ..errors import UsageError
from . import options
from .console import counted, is_terminal, put_json, say, size_text
from .hub_option import CHECKPOINTS
from .option_groups import with_option_groups
from .progress import read_bar

if TYPE_CHECKING:
    from ..verbs import ExtractedLora

SHOWN = 5
"""The number of layers that are listed without -v: those that keep the least."""


@with_option_groups
def lora(
    task: Annotated[LoraTask, typer.Argument(help="What to do.", metavar="extract")],
    fine: Annotated[
        str, typer.Argument(help="A fine-tuned checkpoint.", metavar="FINE"), CHECKPOINTS
    ],
    base: Annotated[
        str,
        typer.Argument(help="The base checkpoint that it was fine-tuned from.", metavar="BASE"),
        CHECKPOINTS,
    ],
    output: options.Output = None,
    rank: Annotated[
        int, typer.Option(help="Largest rank of a layer.", metavar="N", min=1, max=4096)
    ] = 64,
    dtype: Annotated[
        str, typer.Option(help="Dtype of the factors: F16 or F32.", metavar="DTYPE")
    ] = "F16",
    key: options.Key = None,
    exclude: options.Exclude = None,
    component: options.Component = None,
    variant: options.Variant = None,
    force: options.Force = False,
    *,
    printing: options.PrintOptions,
) -> None:
    """Extract the LoRA that is nearest to the difference of two checkpoints.

    It prints the share of the squared difference that each layer keeps. For an exact difference,
    use `delta`.

    Example: soupctl lora extract cats.safetensors base.safetensors --rank 64 -o lora.safetensors
    """
    assert task is LoraTask.EXTRACT
    if output is None:
        raise UsageError("-o is required", advice="-o FILE")
    from .. import verbs
    from ..format.dtypes import parse_dtype

    asked = verbs.Extraction(
        fine=options.named(fine),
        base=options.named(base),
        output=output,
        rank=rank,
        dtype=parse_dtype(dtype),
        keys=tuple(key or ()),
        excludes=tuple(exclude or ()),
        component=component,
        variant=variant,
    )
    with read_bar(printing.quiet):
        made = verbs.extract_lora(asked, force=force)
    report(output, made, printing)


def report(output: str, made: ExtractedLora, printing: options.PrintOptions) -> None:
    """Print a summary of the LoRA as text or, if requested, as JSON."""
    for line in _lines(output, made, verbose=printing.verbose):
        say(line, printing.quiet)
    if printing.json:
        put_json(_json(output, made))


def _lines(output: str, made: ExtractedLora, *, verbose: bool) -> Iterator[str]:
    """The energy kept, by layer, those with the least first."""
    every = sorted(made.layers, key=lambda each: (each.energy, each.tensor))
    shown = every if verbose or not is_terminal() else every[:SHOWN]
    for each in shown:
        yield f"{each.energy:8.2%}  {each.tensor} (rank {each.rank})"
    if len(shown) < len(every):
        yield f"          and {counted(len(every) - len(shown), 'more layer')}, which keep more"
    if made.left:
        yield f"soupctl: differences that no LoRA holds: {_few(made)}"
    yield f"{output}: {counted(len(made.layers), 'layer')}, {size_text(made.written)} written"


def _few(made: ExtractedLora) -> str:
    more = "" if len(made.left) <= SHOWN else f" and {len(made.left) - SHOWN} more"
    return f"{', '.join(made.left[:SHOWN])}{more}"


def _json(output: str, made: ExtractedLora) -> dict[str, Any]:
    return {
        "output": output,
        "layers": [
            {"tensor": each.tensor, "rank": each.rank, "energy": each.energy}
            for each in made.layers
        ],
        "left": list(made.left),
        "bytes_written": made.written,
    }
