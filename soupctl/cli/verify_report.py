"""The verdict on a soup: what is proven of it, as lines and as JSON, failures first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..choices import Level, Proof
from .attestation_report import attestation_json
from .console import put, put_lines, shares_json, weight_json

if TYPE_CHECKING:
    from ..ledger.ledger import Ledger
    from ..verbs import CheckedAttestation, Verified

PROOFS = tuple(Proof)
"""The verdicts, the worst first."""


def put_verdicts(found: Sequence[Verified], level: Level | None, *, verbose: bool) -> None:
    """Print the verdict on each component, with `verbose` also what is proven on each level."""
    for each in found:
        put(_verdict_line(each, level))
        if verbose:
            put_lines(_level_lines(each), "  ")


def _verdict_line(found: Verified, wanted: Level | None) -> str:
    """The verdict on one component: failures first, then what is proven."""
    verdict = found.verdict(wanted)
    exactness = "" if found.exact in (None, True) else ", approximate"
    level = "" if found.level is Level.NOTHING else f"{found.level.value}{exactness}: "
    proven = f"{level}{found.level.meaning}"
    parts = [proven] if found.problem is None else [found.problem, proven]
    if verdict is Proof.OK:
        parts.reverse()
    shown = [part.removeprefix(f"{found.path}: ") for part in parts]
    return f"{verdict.value}: {found.path}: {'; '.join(shown)}"


def _level_lines(found: Verified) -> Iterator[str]:
    """A line for each level, proven or not, and for everything that a rebuild cannot check."""
    for level in (Level.HEADER, Level.DIGEST, Level.REBUILD):
        answer = "proven" if found.level.holds(level) else "not proven"
        yield f"{level.value:8} {answer}: {level.meaning}"
    for each in found.unproven:
        yield f"not proven: {each}"


def proof_json(
    soup: str,
    found: Sequence[Verified],
    wanted: Level | None,
    checked: CheckedAttestation | None,
) -> dict[str, Any]:
    """The verdicts on a soup, and on its attestation if there is one, as JSON."""
    from .. import __version__
    from ..ledger.ledger_json import ARITHMETIC

    verdicts = [each.verdict(wanted) for each in found] or [Proof.UNPROVEN]
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
