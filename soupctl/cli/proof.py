"""`soupctl verify`: the proof of a soup, the bad news first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import Level, Proof
from ..errors import UsageError
from . import options
from .attestation_report import attestation_json, attestation_verdict
from .console import put, put_json, put_lines, shares_json, weight_json
from .history import Search, Soup
from .progress import read_bar

if TYPE_CHECKING:
    from ..ledger.ledger import Ledger
    from ..verbs import CheckedAttestation, Verified


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
    attestation: Annotated[
        str | None,
        typer.Option(help="Also check this attestation of the soup.", metavar="FILE"),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The public key, or certificates, that signed it.", metavar="PUB"),
    ] = None,
    signers: Annotated[
        str | None,
        typer.Option(help="The SSH keys that may have signed it.", metavar="FILE"),
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

    With --attestation, the soup's files and ledger must also be those that were attested, and with
    --key or --signers, the signature must be of that key, or of one of these signers.

    Example: soupctl verify soup.safetensors --level rebuild
    """
    _require_together(attestation, key, signers, component)
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
        checked = None
        if attestation is not None:
            trusted = key or signers
            checked = verbs.check_attestation(
                soup, Path(attestation), found, key=Path(trusted) if trusted else None
            )
    if json:
        put_json(_proof_json(soup, found, level, checked))
    elif not quiet:
        for each in sorted(found, key=lambda each: PROOFS.index(each.verdict(level))):
            put(_verdict(each, level))
            if verbose:
                put_lines(_level_lines(each), "  ")
        if checked is not None:
            put(attestation_verdict(checked))
    proven = all(each.reaches(level) for each in found)
    raise typer.Exit(0 if proven and (checked is None or checked.verdict is Proof.OK) else 1)


def _require_together(
    attestation: str | None, key: str | None, signers: str | None, component: str | None
) -> None:
    """Raise UsageError for options of an attestation that do not go together."""
    if attestation is None and (key is not None or signers is not None):
        given = "--key" if key is not None else "--signers"
        raise UsageError(f"{given} is for an attestation", advice="--attestation FILE names it")
    if key is not None and signers is not None:
        raise UsageError("--key and --signers both say who signed", advice="give one of them")
    if attestation is not None and component is not None:
        raise UsageError("an attestation is of all components", advice="leave out --component")
    for text in (attestation, key, signers):
        if text is not None:
            options.named(text)


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


def _proof_json(
    soup: str,
    found: Sequence[Verified],
    wanted: Level | None,
    checked: CheckedAttestation | None,
) -> dict[str, Any]:
    from .. import __version__
    from ..ledger.ledger_json import ARITHMETIC

    verdicts = [each.verdict(wanted) for each in found]
    attested = {} if checked is None else {"attestation": attestation_json(checked)}
    if checked is not None:
        verdicts.append(checked.verdict)
    return {
        "soup": soup,
        "verdict": min(verdicts, key=PROOFS.index).value,
        "refuted": any(each.refuted for each in found),
        "soupctl": __version__,
        "arithmetic": ARITHMETIC,
        "components": [_verified_json(each, wanted) for each in found],
        **attested,
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
