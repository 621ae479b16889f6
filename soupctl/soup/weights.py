"""Weights as exact rationals, from the text a user wrote to the integers an engine takes.

Rule 1: a weight is never a float; `0.7` means 7/10 and `1/3` means a third.
Rule 2: proportions become whole numbers with no common factor, so equal soups have equal weights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

from ..errors import UsageError

LARGEST = 2**24
"""Largest scaled weight and largest total, so that products stay exact in float64."""

PATTERN = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30}|\d{1,30}/\d{1,30})")


def parse_weight(text: str) -> Fraction:
    """The exact value of a weight such as `2`, `0.25` or `1/3`; UsageError if none or zero."""
    if not text.isascii() or not PATTERN.fullmatch(text):
        raise UsageError(f"{text!r} is not a weight", advice="such as 2, 0.25 or 1/3")
    try:
        weight = Fraction(text)
    except ZeroDivisionError:
        raise UsageError(f"{text!r} divides by zero") from None
    if not weight:
        raise UsageError(f"{text!r} is a weight of zero", advice="leave the ingredient out")
    return weight


def weight_text(weight: Fraction) -> str:
    """The one way a weight is written in a ledger: `2` or `1/3`."""
    return str(weight)


def scaled(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """The same proportions in whole numbers with no common factor.

    Raises UsageError if the total is not positive, or if a number or the total exceeds 2**24.
    """
    if sum(weights) <= 0:
        raise UsageError(
            f"the weights add up to {sum(weights)}", advice="their total must be positive"
        )
    denominator = lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * denominator) for weight in weights]
    divisor = gcd(*whole)
    whole = [number // divisor for number in whole]
    if max(sum(whole), *map(abs, whole)) > LARGEST:
        raise UsageError(
            "the weights are too fine: as whole numbers they exceed 2**24",
            advice="round them to fewer digits, say four decimals",
        )
    return tuple(whole)
