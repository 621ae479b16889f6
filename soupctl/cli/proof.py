"""`soupctl verify`: the proof of a soup, the bad news first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import Level, Proof
from . import options
from .console import put, put_json, put_lines, shares_json, weight_json
from .history import Search, Soup
from .progress import read_bar

if TYPE_CHECKING:
    from ..ledger.ledger import Ledger
    from ..verbs import Verified


def verify(
    soup: Soup,
    ingredients: Annotated[
        list[str] | None,
        typer.Argument(help="Ingredients that have moved since the soup was made.", metavar="X..."),
    ] = None,
    search: Search = None,
    level: Annotated[
        Level | None, typer.Option(help="Highest level to prove.  [default: as high as possible]")
    ] = None,
    component: options.Component = None,
    json: options.Json = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Verify a soup: its header, its tensors, or by rebuilding it bit for bit.

    The exit code is 0 if the level named by --level is proven, else 1. Without --level, the
    highest possible level is tried, and the exit code is 0 from level digest on, unless the
    ingredients disprove the soup.

    Example: soupctl verify soup.safetensors --level rebuild
    """
    from .. import verbs

    execution = verbs.ExecutionOptions.on(device)
    if threads is not None:
        execution = replace(execution, threads=threads)
    with read_bar(quiet) as advance:
        found = verbs.verify(
            soup,
            ingredients or (),
            search=[Path(folder) for folder in search or ()],
            level=level,
            component=component,
            execution=replace(execution, progress=advance),
        )
    if json:
        put_json(_proof_json(soup, found, level))
    elif not quiet:
        for each in sorted(found, key=lambda each: PROOFS.index(each.verdict(level))):
            put(_verdict(each, level))
            if verbose:
                put_lines(_level_lines(each), "  ")
    raise typer.Exit(0 if all(each.reaches(level) for each in found) else 1)


PROOFS = tuple(Proof)
VERDICTS = {
    "nothing": "nothing is proven",
    "header": "its header is sound",
    "digest": "its tensors are those that its ledger describes",
    "rebuild": "its ingredients make it, bit for bit",
}


def _verdict(found: Verified, wanted: Level | None) -> str:
    """The verdict on one component: the bad news first, then what is proven."""
    verdict = found.verdict(wanted)
    exactness = "" if found.exact in (None, True) else ", approximate"
    level = "" if found.level is Level.NOTHING else f"{found.level.value}{exactness}: "
    proven = f"{level}{VERDICTS[found.level.value]}"
    parts = [proven] if found.problem is None else [found.problem, proven]
    if verdict is Proof.OK:
        parts.reverse()
    shown = [part.removeprefix(f"{found.path}: ") for part in parts]
    return f"{verdict.value}: {found.path}: {'; '.join(shown)}"


def _level_lines(found: Verified) -> Iterator[str]:
    """A line for each level, proven or not, and for everything that a rebuild cannot check."""
    for level in (Level.HEADER, Level.DIGEST, Level.REBUILD):
        answer = "proven" if found.level.holds(level) else "not proven"
        yield f"{level.value:8} {answer}: {VERDICTS[level.value]}"
    for each in found.unproven:
        yield f"not proven: {each}"


def _proof_json(soup: str, found: Sequence[Verified], wanted: Level | None) -> dict[str, Any]:
    from .. import __version__
    from ..ledger.ledger_json import ARITHMETIC

    verdicts = [each.verdict(wanted) for each in found]
    return {
        "soup": soup,
        "verdict": min(verdicts, key=PROOFS.index).value,
        "refuted": any(each.refuted for each in found),
        "soupctl": __version__,
        "arithmetic": ARITHMETIC,
        "components": [_verified_json(each, wanted) for each in found],
    }


def _verified_json(found: Verified, wanted: Level | None) -> dict[str, Any]:
    ledger = found.ledger
    return {
        "path": found.path,
        "verdict": found.verdict(wanted).value,
        "level": found.level.value,
        "proven": found.reaches(wanted),
        "refuted": found.refuted,
        "exact": found.exact,
        "problem": found.problem,
        "unproven": list(found.unproven),
        "digest": None if ledger is None else ledger.root,
        "ingredients": [] if ledger is None else shares_json(ledger),
        "removed": [] if ledger is None else _removed_json(ledger),
    }


def _removed_json(ledger: Ledger) -> list[dict[str, Any]]:
    """The ingredients that were removed from a soup, wholly or in part, oldest first."""
    return [
        {
            "operation": state.operation,
            "digest": change.digest,
            "name": change.name,
            **weight_json(change),
        }
        for state in ledger.states
        if state.operation in ("subtract", "swap")
        for change in state.changed
        if min((change.weight, *change.blocks)) < 0
    ]
