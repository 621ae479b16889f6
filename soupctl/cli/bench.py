"""`soupctl bench`: how fast files are hashed and averaged here, beside plain loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import put_json, put_lines, size_text
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import MeasuredSpeed


@with_option_groups
def bench(
    files: Annotated[
        list[str], typer.Argument(help="Checkpoints that can be averaged.", metavar="FILE...")
    ],
    rounds: Annotated[
        int, typer.Option(help="Times that each is measured.", metavar="N", min=1, max=1000)
    ] = 3,
    folder: Annotated[
        str | None,
        typer.Option(
            help="Folder to write to.  [default: that for temporary files]", metavar="DIR"
        ),
    ] = None,
    json: options.Json = False,
    *,
    work: options.WorkOptions,
) -> None:
    """Measure how fast files are hashed and averaged on this machine.

    Each is measured several times. Plain loops, which only read and write the same bytes, are
    measured in between, and show the limit of this machine. All files are read once beforehand, so
    files that fit in memory are measured without the disk. What is written is removed again.

    Example: soupctl bench cats.safetensors dogs.safetensors
    """
    from .. import verbs

    execution = work.execution()
    found = verbs.measure_speed(
        list(map(options.named, files)),
        rounds=rounds,
        folder=None if folder is None else Path(options.named(folder)),
        execution=execution,
    )
    if json:
        put_json({"threads": execution.threads, "rounds": rounds, "work": list(map(_json, found))})
        return
    put_lines(_lines(found))


def _lines(found: Sequence[MeasuredSpeed]) -> Iterator[str]:
    yield f"{'work':8} {'bytes':>10} {'seconds':>9} {'GB/s':>8}  {'of the limit':>12}"
    for each in found:
        share = f"{each.share:.0%}" if not each.is_plain else "plain loop"
        figures = f"{each.seconds:9.3f} {each.rate / 1e9:8.3f}"
        yield f"{each.work:8} {size_text(each.size):>10} {figures}  {share:>12}"


def _json(each: MeasuredSpeed) -> dict[str, Any]:
    return {
        "work": each.work,
        "is_plain_loop": each.is_plain,
        "bytes": each.size,
        "seconds": each.seconds,
        "gigabytes_a_second": each.rate / 1e9,
        "share_of_limit": each.share,
    }
