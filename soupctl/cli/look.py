"""`soupctl inspect` and `soupctl hash`: commands that only look."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, UsageError
from . import options
from .render import put, put_json, say, shares_json, size_text

if TYPE_CHECKING:
    from ..verbs import Inspection


def inspect(
    path: Annotated[str, typer.Argument(help="A checkpoint: a file or a folder.", metavar="FILE")],
    component: Annotated[
        str | None, typer.Option(help="Only this folder of a pipeline.", metavar="NAME")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Prefer files of this variant.", metavar="NAME")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Leave out the list of tensors.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what a checkpoint is, from its headers alone.

    Example: soupctl inspect soup.safetensors
    """
    from .. import verbs

    found = verbs.inspect(path, component=component, variant=variant)
    if json:
        put_json({"path": path, "checkpoints": [_inspection_json(each, summary) for each in found]})
        return
    for each in found:
        for line in _inspection_lines(each, summary):
            put(line)


def _inspection_lines(found: Inspection, summary: bool) -> Iterator[str]:
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in found.dtypes.items())
    yield found.path
    yield f"  looks like  {found.architecture or 'nothing known'}"
    files = f" in {len(found.files)} files" if len(found.files) > 1 else ""
    yield f"  parameters  {found.parameters:,} ({size_text(found.size)}){files}"
    yield f"  tensors     {len(found.tensors)}{f' ({dtypes})' if dtypes else ''}"
    for key, text in found.metadata.items():
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        yield f"  metadata    {key}: {shown}"
    yield from _soup_lines(found)
    if not summary:
        width = max((len(str(list(tensor.shape))) for tensor in found.tensors), default=0)
        for tensor in found.tensors:
            shape = str(list(tensor.shape))
            yield f"  {tensor.dtype.value:8} {shape:{width}}  {tensor.name}"


def _soup_lines(found: Inspection) -> Iterator[str]:
    if found.ledger_problem:
        yield f"  soup        {found.ledger_problem}"
    if found.ledger is None:
        return
    yield f"  soup        {found.ledger.root}"
    total = sum(entry.weight for entry in found.ledger.ingredients)
    for entry in found.ledger.ingredients:
        share = float(entry.weight / total)
        yield f"              {share:8.3%}  {entry.name}  (weight {entry.weight}, {entry.digest})"


def _inspection_json(found: Inspection, summary: bool) -> dict[str, Any]:
    ledger = found.ledger
    tensors = [
        {
            "name": tensor.name,
            "dtype": tensor.dtype.value,
            "shape": list(tensor.shape),
            "bytes": tensor.size,
        }
        for tensor in found.tensors
    ]
    soup = ledger and {
        "operation": ledger.operation,
        "digest": ledger.root,
        "exact": ledger.exact,
        "ingredients": shares_json(ledger.ingredients),
    }
    return {
        "path": found.path,
        "name": found.name,
        "files": list(found.files),
        "architecture": found.architecture,
        "parameters": found.parameters,
        "bytes": found.size,
        "dtypes": found.dtypes,
        "metadata": dict(found.metadata),
        "soup": soup,
        "ledger_problem": found.ledger_problem,
        **({} if summary else {"tensors": tensors}),
    }


def hash_files(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Checkpoints: files or folders.", metavar="FILE")
    ] = None,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Digest whole files with SHA-256 instead.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option("--check", "-c", help="Check a list of digests; - is stdin.", metavar="LIST"),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print content digests: equal tensors, equal digests.

    Shards, order, padding and metadata do not count.

    Example: soupctl hash soup.safetensors > soup.b3 && soupctl hash --check soup.b3
    """
    if check is not None:
        if paths or sha256:
            raise UsageError("--check takes the files and the kind of digest from its list")
        raise typer.Exit(_check(check, json, quiet))
    if not paths:
        raise UsageError("there is no file to hash", advice="name at least one checkpoint")
    from .. import verbs

    digests = []
    for path in paths:
        found = (
            (verbs.file_sha256(path),) if sha256 else verbs.content_digests(path, threads=threads)
        )
        for each in found:
            digests.append({"digest": each.digest, "path": each.path})
            if not json:
                put(f"{each.digest}  {each.path}")
    if json:
        put_json({"digests": digests})


def _check(source: str, json: bool, quiet: bool) -> int:
    """Print a verdict a line; 0 if all hold."""
    from .. import verbs

    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise InputError(error.strerror or str(error), path=source) from None
    lines = [os.fsdecode(line) for line in raw.split(b"\n") if line]
    verdicts = []
    for verdict in verbs.check_digests(lines, source):
        verdicts.append(verdict)
        if not json and not quiet:
            put(f"{verdict.path}: {'OK' if verdict.holds else verdict.problem or 'DIFFERS'}")
    failed = sum(not verdict.holds for verdict in verdicts)
    if json:
        checked = [
            {"path": each.path, "ok": each.holds, "problem": each.problem} for each in verdicts
        ]
        put_json({"ok": not failed, "checked": checked})
    if failed:
        say(f"soupctl: {failed} of {len(verdicts)} do not have the digest that {source} says")
    return 1 if failed else 0
