"""`soupctl stack`: puts prompt banks together, each with a weight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import options as shared
from .console import put_json, say
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..banks.stack import BankStack


@with_option_groups
def stack(
    banks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Prompt banks and stacks, each with an optional @WEIGHT.", metavar="BANK..."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder of the new stack.", metavar="OUTPUT"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights in order, such as 0.7,0.3.")
    ] = None,
    without: Annotated[
        str | None, typer.Option(help="Leave this bank out of the stack.", metavar="NAME")
    ] = None,
    force: shared.Force = False,
    *,
    printing: shared.PrintOptions,
) -> None:
    """Keep several prompt banks of one base together, each with a weight.

    Their outputs are summed, whereas avg would average their parameters. Each can be removed again.
    A stack among the inputs is flattened: its banks keep their names and shares.

    Example: soupctl stack cats/bank@0.7 dogs/bank@0.3 -o both
    """
    if not banks or output is None:
        raise UsageError("BANK and -o are required")
    if without is not None and (len(banks) > 1 or weights is not None):
        raise UsageError("--without takes one stack, and no -w: its weights stay")
    inputs = shared.read_inputs(banks, weights, None, False)
    from ..diffusion.libraries import require_extra

    require_extra()
    from ..banks.stacking import leave_out, stack_banks

    target = Path(output)
    if without is not None:
        made = leave_out(Path(banks[0]), without, target, replace=force)
    else:
        pairs = [(Path(each.path), each.weight) for each in inputs]
        made = stack_banks(pairs, target, replace=force)
    _tell(made, output, printing)


def _tell(made: BankStack, output: str, printing: shared.PrintOptions) -> None:
    named = {name: str(weight) for name, weight in made.weights.items()}
    if printing.json:
        put_json({"output": output, "banks": named})
        return
    for name, weight in named.items():
        say(f"{output}: {name} with weight {weight}", printing.quiet)
