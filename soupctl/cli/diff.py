"""`soupctl diff`: compares checkpoints by the values of their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import Grouping
from ..errors import UsageError
from . import options
from .difference_picture import plot_differences, plot_matrix
from .difference_report import print_differences, print_matrix
from .hub_option import CHECKPOINTS
from .option_groups import with_option_groups
from .picture import free_picture
from .progress import read_bar

if TYPE_CHECKING:
    from ..verbs import CheckpointDifference, DeltaMatrix, ExecutionOptions


@with_option_groups
def diff(
    paths: Annotated[list[str], typer.Argument(help="Checkpoints.", metavar="A B..."), CHECKPOINTS],
    by: Annotated[
        Grouping | None,
        typer.Option(help="How to list differences.  [default: by block if they are many]"),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The base of the deltas, for --matrix.", metavar="FILE"),
        CHECKPOINTS,
    ] = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Print the cosine of each two deltas from --base.")
    ] = False,
    plot: Annotated[str | None, typer.Option(help="Draw the differences.", metavar="PNG")] = None,
    force: options.Force = False,
    key: options.Key = None,
    exclude: options.Exclude = None,
    component: options.Component = None,
    variant: options.Variant = None,
    threads: options.Threads = None,
    *,
    printing: options.PrintOptions,
) -> None:
    """Compare two checkpoints, or with --matrix the changes of several to a base.

    The exit code is 0 if both have the same tensors to the last byte, which is when `soupctl hash`
    prints the same digest for both, and 1 if not. Codes with a scale are compared by the numbers
    that they represent.

    Example: soupctl diff a.safetensors b.safetensors
    """
    names = [options.named(path) for path in paths]
    if matrix != (base is not None):
        raise UsageError("--base and --matrix go together", advice="give both, or neither")
    if base is not None and by is not None:
        raise UsageError("--by does not apply to --matrix", advice="leave it out")
    if force and plot is None:
        raise UsageError("-f needs --plot", advice="it replaces a picture")
    chosen: dict[str, Any] = {
        "keys": tuple(key or ()),
        "excludes": tuple(exclude or ()),
        "component": component,
        "variant": variant,
    }
    execution = _execution(threads)
    target = None if plot is None else free_picture(plot, force=force)
    if base is None:
        found = _compare_two(names, chosen, execution, printing)
        if target is not None:
            plot_differences(found, target, force=force)
        print_differences(found, by, printing)
        raise typer.Exit(0 if all(each.is_equal for each in found) else 1)
    deltas = _compare_deltas(names, base, chosen, execution, printing)
    if target is not None:
        plot_matrix(deltas, target, force=force)
    print_matrix(deltas, printing)


def _compare_two(
    names: list[str],
    chosen: dict[str, Any],
    execution: ExecutionOptions,
    printing: options.PrintOptions,
) -> tuple[CheckpointDifference, ...]:
    if len(names) != 2:
        what = f"two checkpoints are compared, not {len(names)}"
        raise UsageError(what, advice="--base BASE --matrix compares the deltas of several")
    from .. import verbs

    one, other = names
    with read_bar(printing.quiet):
        return verbs.compare_checkpoints(
            verbs.DiffRequest(one=one, other=other, **chosen), execution
        )


def _compare_deltas(
    names: list[str],
    base: str,
    chosen: dict[str, Any],
    execution: ExecutionOptions,
    printing: options.PrintOptions,
) -> tuple[DeltaMatrix, ...]:
    from .. import verbs

    request = verbs.MatrixRequest(base=options.named(base), others=tuple(names), **chosen)
    with read_bar(printing.quiet):
        return verbs.compare_deltas(request, execution)


def _execution(threads: int | None) -> ExecutionOptions:
    from .. import verbs

    return verbs.ExecutionOptions() if threads is None else verbs.ExecutionOptions(threads)
