"""`soupctl inspect`: describes a checkpoint from its headers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import options
from .block_table import bar_lines, rows_json
from .console import (
    UNDIVIDED,
    digest_text,
    entry_json,
    method_json,
    put_json,
    put_lines,
    role_text,
    share_text,
    shares_json,
    shows_whole_digests,
    size_text,
)
from .hub_option import CHECKPOINTS
from .ledger_lines import config_lines, donor_lines, training_text
from .option_groups import with_option_groups
from .tensor_table import tensor_lines

if TYPE_CHECKING:
    from ..kinds.kind import TensorKind
    from ..lora.summary import AdapterSummary
    from ..verbs import Inspection

NAMES = {"checkpoint": "soup", "delta": "delta", "sum": "sum of"}
"""The label of the digest, for each kind of file that has a ledger."""


@with_option_groups
def inspect(
    path: Annotated[
        str, typer.Argument(help="A checkpoint: a file or a folder.", metavar="FILE"), CHECKPOINTS
    ],
    component: options.Component = None,
    variant: options.Variant = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Leave out the list of tensors.")
    ] = False,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List every tensor, however many there are.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Compare a prompt bank with its base.", metavar="FOLDER")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help="Draw the gates of a prompt bank.", metavar="PNG")
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what a checkpoint is, from its headers alone.

    It lists up to 20 tensors; if there are more, it counts them by block. Only --plot reads tensor
    data, to draw the gates of a prompt bank.

    Example: soupctl inspect soup.safetensors
    """
    from .. import verbs
    from . import banks

    if force and plot is None:
        raise UsageError("-f needs --plot", advice="it replaces a picture")
    if summary and tensors:
        raise UsageError("--summary and --tensors exclude each other", advice="leave out one")
    prompt_banks = banks.banks_at(options.named(path), base, is_plotted=plot is not None)
    folders = [str(each.folder) for each in prompt_banks] or [path]
    found = [
        each
        for folder in folders
        for each in verbs.inspect(folder, component=component, variant=variant)
    ]
    gates = () if plot is None else banks.plot(path, base, plot, force=force)
    if json:
        read = {"path": path, "checkpoints": [_inspection_json(each, summary) for each in found]}
        put_json({**read, **(banks.banks_json(prompt_banks, gates) if prompt_banks else {})})
        return
    put_lines(banks.bank_lines(prompt_banks, gates))
    for each in found:
        put_lines(_inspection_lines(each, verbose=verbose))
        if not summary:
            put_lines(tensor_lines(each.tensors, each.kinds, every=tensors or verbose), "  ")


def _inspection_lines(found: Inspection, *, verbose: bool) -> Iterator[str]:
    whole = shows_whole_digests(verbose)
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in found.dtypes.items())
    yield found.path
    yield f"  looks like  {found.architecture or _kind_text(found)}"
    files = f" in {len(found.files)} files" if len(found.files) > 1 else ""
    yield f"  parameters  {found.parameters:,} ({size_text(found.size)}){files}"
    yield f"  tensors     {len(found.tensors)}{f' ({dtypes})' if dtypes else ''}"
    if found.adapter is not None:
        yield f"  adapter     {_adapter_text(found.adapter)}"
    if found.kinds:
        by_text = {kind.text: kind for kind in found.kinds.values()}
        counts = found.counted_kinds
        kinds = ", ".join(kind.counted(counts[text]) for text, kind in sorted(by_text.items()))
        yield f"  not weights {kinds}"
    for key, text in found.metadata.items():
        shown = text if verbose or len(text) <= 60 else f"{text[:57]}..."
        yield f"  metadata    {key}: {shown}"
    yield from (f"  note        {note}" for note in found.notes)
    if verbose:
        yield from (f"  file        {name}" for name in found.files)
    yield from _soup_lines(found, whole=whole)


def _kind_text(found: Inspection) -> str:
    """What a file whose tensors are of no known model is."""
    if found.adapter is not None:
        return "an adapter"
    return {"sum": "a kept sum", "delta": "a delta"}.get(found.kind, "nothing known")


def _adapter_text(adapter: AdapterSummary) -> str:
    """The families, ranks and modules of an adapter in words, or why it cannot be applied."""
    if adapter.problem is not None:
        return f"not applied: {adapter.problem}"
    families = ", ".join(f"{count} {family}" for family, count in adapter.families.items())
    ranks = " and ".join(str(rank) for rank in adapter.ranks)
    alphas = "" if adapter.with_alpha else ", without alpha"
    of_rank = f" of rank {ranks}" if ranks else " of whole factors"
    return f"{families} {'module' if adapter.modules == 1 else 'modules'}{of_rank}{alphas}"


def _adapter_json(adapter: AdapterSummary | None) -> dict[str, Any]:
    """The facts of an adapter under one key; empty for any other checkpoint."""
    if adapter is None:
        return {}
    ranks = {str(rank): count for rank, count in adapter.ranks.items()}
    facts = {"families": dict(adapter.families), "ranks": ranks, "with_alpha": adapter.with_alpha}
    return {"adapter": {**facts, "problem": adapter.problem}}


def _soup_lines(found: Inspection, *, whole: bool) -> Iterator[str]:
    if found.ledger_problem:
        yield f"  soup        {found.ledger_problem}"
    if found.ledger is None:
        return
    if found.ledger.training is not None:
        yield f"  {'trained':10}  {training_text(found.ledger.training, whole=whole)}"
        return
    root = digest_text(found.ledger.root, whole=whole)
    yield f"  {NAMES[found.kind]:10}  {root}"
    for entry, part in zip(found.ledger.ingredients, found.ledger.known_shares, strict=True):
        share = f"{share_text(part)}  {entry.name}"
        digest = digest_text(entry.digest, whole=whole)
        yield f"              {share}  ({role_text(found.ledger, entry)}, {digest})"
    names = [entry.name for entry in found.ledger.ingredients]
    for label, line in zip_longest(["blocks"], bar_lines(found.blocks, names), fillvalue=""):
        if line:
            yield f"  {label:10}  {line}"
    own = found.ledger
    if own.method is not None:
        yield f"  {'method':10}  {own.method.text}"
    if not own.normalize:
        yield f"  {'weights':10}  {UNDIVIDED}"
    for label, text in chain(donor_lines(own, whole=whole), config_lines(own, whole=whole)):
        yield f"  {label:10}  {text}"


def _kind_json(kind: TensorKind) -> dict[str, Any]:
    scale = kind.scale and {"tensor": kind.scale.tensor, "block": list(kind.scale.block)}
    more = {"what": kind.what, "of": kind.of, "scale": scale}
    return {"kind": kind.role.value, **{key: value for key, value in more.items() if value}}


def _inspection_json(found: Inspection, summary: bool) -> dict[str, Any]:
    from ..kinds.classify import kind_of

    ledger = found.ledger
    tensors = [
        {
            "name": tensor.name,
            "dtype": tensor.dtype.value,
            "shape": list(tensor.shape),
            "bytes": tensor.size,
            **_kind_json(kind_of(found.kinds, tensor.name)),
        }
        for tensor in found.tensors
    ]
    soup = ledger and {
        "operation": ledger.operation,
        "digest": ledger.root,
        "exact": ledger.exact,
        "ingredients": shares_json(ledger),
        **rows_json(found.blocks),
        **({"donors": list(map(entry_json, ledger.donors))} if ledger.donors else {}),
        **({"configs": ledger.config_from} if ledger.config_from else {}),
        **method_json(ledger),
        **({} if ledger.normalize else {"normalize": False}),
    }
    return {
        "path": found.path,
        "name": found.name,
        "files": list(found.files),
        "architecture": found.architecture,
        "parameters": found.parameters,
        "bytes": found.size,
        "dtypes": found.dtypes,
        "kinds": found.counted_kinds,
        "metadata": dict(found.metadata),
        "kind": found.kind,
        **_adapter_json(found.adapter),
        **({"notes": list(found.notes)} if found.notes else {}),
        "soup": soup,
        "ledger_problem": found.ledger_problem,
        **({} if summary else {"tensors": tensors}),
    }
