"""`soupctl inspect` and `soupctl hash`: commands that only look."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import options
from .console import put, put_json, say, shares_json, size_text
from .history import training_line

if TYPE_CHECKING:
    from ..verbs import FileDigest, Inspection


def inspect(
    path: Annotated[str, typer.Argument(help="A checkpoint: a file or a folder.", metavar="FILE")],
    component: options.Component = None,
    variant: options.Variant = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Leave out the list of tensors.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Compare a prompt bank with its base.", metavar="FOLDER")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help="Draw the gates of a prompt bank.", metavar="PNG")
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Show what a checkpoint is, from its headers alone.

    Only --plot reads numbers: how gates weigh prompts at each timestep.

    Example: soupctl inspect soup.safetensors
    """
    from .. import verbs
    from . import banks

    if force and plot is None:
        raise UsageError("-f is for --plot")
    looks = banks.looks_at(options.named(path), base, is_plotted=plot is not None)
    folders = [str(each.folder) for each in looks] or [path]
    found = [
        each
        for folder in folders
        for each in verbs.inspect(folder, component=component, variant=variant)
    ]
    gates = () if plot is None else banks.plot(path, base, plot, force=force)
    if json:
        read = {"path": path, "checkpoints": [_inspection_json(each, summary) for each in found]}
        put_json({**read, **(banks.banks_json(looks, gates) if looks else {})})
        return
    for line in banks.bank_lines(looks, gates):
        put(line)
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
    if found.ledger.training is not None:
        yield f"  {training_line(found.ledger.training)}"
        return
    yield f"  {'sum of' if found.is_sum else 'soup':10}  {found.ledger.root}"
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
        "kind": "sum" if found.is_sum else "checkpoint",
        "soup": soup,
        "ledger_problem": found.ledger_problem,
        **({} if summary else {"tensors": tensors}),
    }


def hash_files(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Checkpoints: files or folders.", metavar="FILE...")
    ] = None,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Digest whole files with SHA-256 instead.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option("--check", "-c", help="Check a list of digests; - is stdin.", metavar="LIST"),
    ] = None,
    component: options.Component = None,
    variant: options.Variant = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Print content digests: equal tensors, equal digests.

    Shards, order, padding and metadata do not count.
    A line whose name is escaped begins with a backslash.

    Example: soupctl hash soup.safetensors > soup.b3 && soupctl hash --check soup.b3
    """
    if check is not None:
        if paths or sha256 or component is not None:
            raise UsageError("--check takes the files and the kind of digest from its list")
        raise typer.Exit(_check(options.named(check), variant, json, quiet))
    if sha256 and not (component is None and variant is None):
        raise UsageError("--sha256 is of whole files, and not of a component or variant")
    from .. import verbs

    digests = []
    for path in _hashed(paths or []):
        if sha256:
            found: tuple[FileDigest, ...] = (verbs.file_sha256(path),)
        else:
            found = verbs.content_digests(
                path, threads=threads, component=component, variant=variant
            )
        for each in found:
            digests.append({"digest": each.digest, "path": each.path})
            if not json:
                mark, name = _listed(each.path)
                put(f"{mark}{each.digest}  {name}")
    if json:
        put_json({"digests": digests})


def _hashed(paths: list[str]) -> list[str]:
    """The paths, of which there is at least one, and no two are the same stream."""
    if not paths:
        raise UsageError("there is no file to hash", advice="name at least one checkpoint")
    if paths.count("-") > 1:
        raise UsageError("standard input can be hashed only once")
    return [options.named(path) for path in paths]


def _listed(name: str) -> tuple[str, str]:
    """What a line with a name begins with, and the name as it is there."""
    from ..checkpoints.lists import escape

    return escape(name, sys.stdout.encoding)


def _check(source: str, variant: str | None, json: bool, quiet: bool) -> int:
    """Print a verdict a line; 0 if all hold."""
    from .. import verbs
    from ..checkpoints.lists import read_list

    verdicts = []
    for verdict in verbs.check_digests(read_list(source), source, variant):
        verdicts.append(verdict)
        if not json and not quiet:
            said = "OK" if verdict.holds else verdict.problem or "DIFFERS"
            put(f"{''.join(_listed(verdict.path))}: {said}")
    failed = sum(not verdict.holds for verdict in verdicts)
    if json:
        checked = [
            {"path": each.path, "ok": each.holds, "problem": each.problem} for each in verdicts
        ]
        put_json({"ok": not failed, "checked": checked})
    if failed:
        say(f"soupctl: {failed} of {len(verdicts)} do not have the digest that {source} says")
    return 1 if failed else 0
