"""`soupctl verify FOLDER`: the verdicts on several soups, and what was not read."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from ..choices import Level, Proof
from ..errors import UsageError
from ..ledger.weights import parse_weight
from ..pattern import pattern
from .console import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..verbs import Share, SoupFolder, VerifiedFolder

DURATION = pattern(r"([0-9]{1,9})(s|m|h)?")
SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}


def parse_sample(text: str | None) -> Fraction:
    """The share of soups of `5%` or `1/20`; all for None."""
    if text is None:
        return Fraction(1)
    try:
        return parse_weight(text)
    except UsageError:
        raise UsageError(f"--sample {text[:40]!r} is not a share", advice="such as 5%") from None


def parse_duration(text: str | None) -> float | None:
    """Seconds of a duration such as `90s`, `10m` or `2h`."""
    if text is None:
        return None
    found = DURATION.fullmatch(text.strip())
    if found is None:
        what = f"--max-duration {text[:40]!r} is not a duration"
        raise UsageError(what, advice="such as 90s, 10m or 2h")
    return float(int(found[1]) * SECONDS[found[2]])


def worst(found: VerifiedFolder, level: Level | None) -> Proof:
    """The worst verdict on a soup that was read."""
    every = list(Proof)
    return min((each.verdict(level) for each in found.soups), key=every.index)


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
