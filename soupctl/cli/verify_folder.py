"""`soupctl verify FOLDER`: the verdicts on several soups, and what was not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..choices import Level, Proof
from .console import counted, put, put_lines
from .verify_report import PROOFS, proof_json, put_verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..verbs import Share, SoupFolder, VerifiedFolder


def worst(found: VerifiedFolder, level: Level | None) -> Proof:
    """The worst verdict on a soup that was read."""
    return min((each.verdict(level) for each in found.soups), key=PROOFS.index)


def put_folder(found: VerifiedFolder, level: Level | None, *, verbose: bool) -> None:
    """Print the verdict on each soup that was read, failures first."""
    for soup in sorted(found.soups, key=lambda each: PROOFS.index(each.verdict(level))):
        if soup.problem is not None:
            put(f"{Proof.UNPROVEN.value}: {soup.problem}")
        put_verdicts(soup.components, level, verbose=verbose)
    if verbose:
        put_lines(f"not read: {each}" for each in found.unread)


def folder_json(
    folder: SoupFolder, found: VerifiedFolder, level: Level | None, seed: int
) -> dict[str, Any]:
    """The verdicts as JSON; `seed` is that of the sample."""
    return {
        "folder": folder.path,
        "verdict": worst(found, level).value,
        "soups": len(folder.soups),
        "seed": seed,
        "verified": [
            {**proof_json(each.path, each.components, level, None), "problem": each.problem}
            for each in found.soups
        ],
        "not_read": list(found.unread),
        "without_ledger": [str(each) for each in folder.others],
    }


def summary(folder: SoupFolder, found: VerifiedFolder, share: Share) -> str:
    """How many soups were read, and what that leaves open."""
    read, total = len(found.soups), len(folder.soups)
    text = f"{folder.path}: {read} of {counted(total, 'soup')} verified"
    if share.sample != 1:
        text += f", drawn with seed {share.seed}"
    if found.unread:
        text += f"; nothing is known of the other {len(found.unread)}"
    return text + _others(folder.others)


def _others(others: Sequence[object]) -> str:
    if not others:
        return ""
    return f"; {counted(len(others), 'other checkpoint')} without a ledger"
