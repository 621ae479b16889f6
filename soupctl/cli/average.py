"""`soupctl avg`: words in, one call, words out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..soup.recipe import OnInt
from . import options
from .render import is_terminal, progress, put, put_json, say, shares_json, size_text

if TYPE_CHECKING:
    from ..verbs import Made, Preview


def average(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoints: files, folders or -, each with an optional @WEIGHT.",
            metavar="INPUT",
        ),
    ] = None,
    output: options.Output = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help="Weights in order, such as 2,1,1/3.", metavar="W,..."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Float dtype of the result; default: the narrowest that holds all."),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Only tensors that match.", metavar="GLOB")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No tensors that match.", metavar="GLOB")
    ] = None,
    component: Annotated[
        str | None, typer.Option(help="Only this folder of a pipeline.", metavar="NAME")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Prefer files of this variant.", metavar="NAME")
    ] = None,
    shard_size: Annotated[
        str | None,
        typer.Option(help="Write a folder of files of at most this size.", metavar="SIZE"),
    ] = None,
    on_int: Annotated[
        OnInt, typer.Option(help="What to do with integers that differ.")
    ] = OnInt.REFUSE,
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Let NaN and infinity pass.")
    ] = False,
    ignore_ledger: Annotated[
        bool, typer.Option("--ignore-ledger", help="Treat soups as plain checkpoints.")
    ] = False,
    files_from: Annotated[
        str | None,
        typer.Option(help="Read more inputs from a file, or - for stdin.", metavar="FILE"),
    ] = None,
    null: Annotated[bool, typer.Option("-0", help="--files-from is NUL-terminated.")] = False,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    threads: options.Threads = None,
    max_memory: options.MaxMemory = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Average checkpoints into a soup, exactly.

    Example: soupctl avg a.safetensors b.safetensors@2 -o soup.safetensors
    """
    if output is None:
        raise UsageError("no output given", advice="-o FILE, or -o - for stdout")
    if json and output == "-" and not dry_run:
        raise UsageError("--json and -o - both want stdout")
    ingredients = options.read_inputs(inputs or [], weights, files_from, null)
    from .. import verbs
    from ..format.dtypes import parse_dtype

    request = verbs.Request(
        ingredients=ingredients,
        output=output,
        dtype=None if dtype is None else parse_dtype(dtype),
        keys=tuple(key or ()),
        excludes=tuple(exclude or ()),
        on_int=on_int,
        allow_nonfinite=allow_nonfinite,
        component=component,
        variant=variant,
        shard_size=options.parse_size(shard_size, "--shard-size"),
        ignore_ledger=ignore_ledger,
    )
    most = options.parse_size(max_memory, "--max-memory")
    started = time.monotonic()
    with verbs.open_job(request) as job:
        preview = verbs.preview(job, threads, most)
        if dry_run:
            _show_preview(preview, json, verbose)
            return
        with progress(preview.read + preview.written, quiet or output == "-") as advance:
            pace = verbs.Pace(preview.threads, progress=advance)
            made = verbs.carry_out(job, force=force, pace=pace)
    _tell_made(
        output, made, time.monotonic() - started, quiet=quiet or not (verbose or is_terminal())
    )
    for each in made:
        _tell_taken(each, quiet)
    if preview.left_behind:
        some = ", ".join(preview.left_behind[:SHOWN_NAMES])
        say(
            f"soupctl: left behind {len(preview.left_behind)} files of weights or code: {some}",
            quiet,
        )
    if json:
        put_json({"output": output, "components": [_made_json(each) for each in made]})


def _tell_made(output: str, made: Sequence[Made], seconds: float, quiet: bool) -> None:
    for each in made:
        ledger = each.ledger
        title = f"{output}: {each.name}" if each.name else output
        ingredients = len(ledger.ingredients)
        say(f"{title}: {ingredients} ingredients, {each.tensors} tensors, {ledger.root}", quiet)
    total = sum(each.read + each.written for each in made)
    say(f"{size_text(total)} read and written in {seconds:.1f} s", quiet)


def _tell_taken(made: Made, quiet: bool) -> None:
    taken = made.ledger.taken
    if taken is not None:
        count = (
            f"{len(taken.tensors)} integer tensors differ"
            if len(taken.tensors) > 1
            else f"{taken.tensors[0]} differs"
        )
        say(f"soupctl: {count}; the first ingredient's values were taken (--on-int first)", quiet)


def _made_json(made: Made) -> dict[str, Any]:
    ledger = made.ledger
    return {
        "name": made.name,
        "digest": ledger.root,
        "ingredients": shares_json(ledger.ingredients),
        "tensors": made.tensors,
        "bytes_read": made.read,
        "bytes_written": made.written,
    }


def _show_preview(preview: Preview, json: bool, verbose: bool) -> None:
    """The plan, as data on stdout: it is what was asked for."""
    if json:
        put_json(_preview_json(preview))
        return
    for line in _preview_lines(preview, None if verbose else SHOWN_TENSORS):
        put(line)


def _preview_json(preview: Preview) -> dict[str, Any]:
    return {
        "output": preview.output,
        "bytes_to_read": preview.read,
        "bytes_to_write": preview.written,
        "memory": preview.memory,
        "threads": preview.threads,
        "free_disk": preview.free_disk,
        "ingredients": [
            {"path": path, "weight": str(weight), "share": float(share)}
            for path, weight, share in preview.shares
        ],
        "components": [
            {
                "name": each.name,
                "files": list(each.files),
                "tensors": each.kept,
                "left_out": each.left_out,
                "dtypes": dict(each.dtypes),
                "odd": [
                    {"tensor": odd.tensor, "rule": odd.rule, "dtypes": list(odd.dtypes)}
                    for odd in each.odd
                ],
            }
            for each in preview.components
        ],
        "copied_files": list(preview.copies),
        "left_behind": list(preview.left_behind),
    }


def _preview_lines(preview: Preview, most: int | None) -> Iterator[str]:
    yield f"output   {preview.output}"
    for path, weight, share in preview.shares:
        yield f"         {float(share):8.3%}  {path}  (weight {weight})"
    free = "unknown" if preview.free_disk is None else size_text(preview.free_disk)
    yield f"read     {size_text(preview.read)}"
    yield f"write    {size_text(preview.written)} (free disk {free})"
    yield f"memory   {size_text(preview.memory)}, {preview.threads} threads"
    for each in preview.components:
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in each.dtypes)
        left_out = f", {each.left_out} left out" if each.left_out else ""
        files = ", ".join(each.files)
        yield f"{each.name or 'tensors':8} {each.kept} ({dtypes}){left_out} in {files}"
        for odd in each.odd[:most]:
            yield f"         {odd.tensor}: {'+'.join(odd.dtypes)} {odd.rule}"
        if most is not None and len(each.odd) > most:
            yield f"         ... and {len(each.odd) - most} more (all with -v)"
    for name in preview.copies:
        yield f"copy     {name}"
    for name in preview.left_behind:
        yield f"leave    {name}"


SHOWN_TENSORS = 20
SHOWN_NAMES = 3
