"""Weights as exact rationals, from the user's text to the integers of an engine.

Rule 1: a weight is never a float; `0.7` means 7/10 and `1/3` means a third.
Rule 2: proportions become whole numbers with no common factor, so equal soups have equal weights.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

from ..errors import UsageError
from ..pattern import pattern

LARGEST = 2**62
"""Largest scaled weight and largest total: what the integer arithmetic of the engines holds."""

DECIMAL = r"(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})"
PATTERN = pattern(
    rf"(?P<number>[+-]?(?:{DECIMAL}(?:[eE][+-]?\d{{1,2}})?|\d{{1,60}}/\d{{1,60}}))"
    rf"|(?P<percent>[+-]?{DECIMAL})%"
)
# room for the sum of many weights
WRITTEN = pattern(r"-?[1-9]\d{0,99}(/[1-9]\d{0,99})?")

MOST_DIGITS = 60
"""Most digits of a numerator or denominator."""


def parse_weight(text: str) -> Fraction:
    """The exact value of a weight such as `2`, `0.25`, `70%`, `1e-3` or `1/3`.

    Raises UsageError for any other text, for zero, and for more than `MOST_DIGITS` digits.
    """
    weight = parse_number(text)
    if not weight:
        shown = reprlib.repr(text)
        raise UsageError(f"{shown} is a weight of zero", advice="leave the ingredient out")
    return weight


def parse_number(text: str) -> Fraction:
    """The exact value of such a text; zero is allowed."""
    shown = reprlib.repr(text)
    found = PATTERN.fullmatch(text) if text.isascii() else None
    if not found:
        raise UsageError(f"{shown} is not a weight", advice="such as 2, 0.25, 70%, 1e-3 or 1/3")
    try:
        weight = Fraction(found["number"]) if found["number"] else Fraction(found["percent"]) / 100
    except ZeroDivisionError:
        raise UsageError(f"{shown} divides by zero") from None
    if _has_too_many_digits(weight):
        raise UsageError(f"{shown} has more than {MOST_DIGITS} digits", advice=FEWER)
    return weight


def _has_too_many_digits(weight: Fraction) -> bool:
    most: int = 10**MOST_DIGITS
    return max(abs(weight.numerator), weight.denominator) > most


def weight_text(weight: Fraction) -> str:
    """The canonical text of a weight in a ledger: `2` or `1/3`."""
    return str(weight)


def is_written(weight: Fraction) -> bool:
    """Whether a weight has few enough digits to be written to a ledger."""
    return WRITTEN.fullmatch(weight_text(weight)) is not None


@lru_cache(maxsize=4096)
def read_weight(text: str) -> Fraction:
    """The weight in a text of `weight_text`; ValueError for any other text."""
    if not text.isascii() or not WRITTEN.fullmatch(text):
        raise ValueError(f"{text[:20]!r} is not a weight")
    return Fraction(text)


def rounded_weight(weight: Fraction, decimals: int | None) -> Fraction:
    """The weight rounded to that many decimals, ties to even; unchanged for None.

    Raises UsageError for a weight that would be zero.
    """
    if decimals is None:
        return weight
    nearest: Fraction = round(weight, decimals)
    if not nearest:
        what = f"a weight of {float(weight):.3g} is zero when rounded to {decimals} decimals"
        advice = "--round-weights asks for more decimals, or leave the ingredient out"
        raise UsageError(what, advice=advice)
    return nearest


def scaled(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """The weights in whole numbers with no common factor, in the same proportions.

    Raises UsageError if a weight is zero, if the total is not positive, or if a number or the total
    exceeds 2**62.
    """
    if not all(weights):
        raise UsageError("a weight is zero", advice="leave the ingredient out")
    if any(map(_has_too_many_digits, weights)):
        raise UsageError(f"a weight has more than {MOST_DIGITS} digits", advice=FEWER)
    denominator = require_positive_total(weights)
    whole = [int(weight * denominator) for weight in weights]
    divisor = gcd(*whole)
    whole = [number // divisor for number in whole]
    if max(sum(whole), *map(abs, whole)) > LARGEST:
        raise UsageError(TOO_FINE, advice=_way_out(weights))
    return tuple(whole)


TOO_FINE = "the weights are too fine: as whole numbers they or their total exceed 2**62"
FEWER = "give fewer digits"
DECIMALS = 9
ROUND = f"--round-weights {DECIMALS} rounds them to nine decimals"


def _way_out(weights: Sequence[Fraction]) -> str:
    """Advice on weights that are too fine: rounding, unless their ratios are too large."""
    # faster than rounding thousands of them, and exact except at the limits
    whole = [abs(each.numerator) * 10**DECIMALS // each.denominator for each in weights]
    fits = all(whole) and sum(whole) <= LARGEST
    return ROUND if fits else FEWER


def require_positive_total(weights: Sequence[Fraction]) -> int:
    """The common denominator of weights whose total is positive; UsageError for any others."""
    denominator = 1
    for weight in weights:
        denominator = lcm(denominator, weight.denominator)
        # whole numbers up to 2**62, and sums of many, stay below this bound; adding thousands of
        # weights without a common denominator would take minutes
        if denominator > weight.denominator * LARGEST**2:
            raise UsageError(TOO_FINE, advice=_way_out(weights))
    # as whole numbers, since fractions are slow to add
    total = sum(weight.numerator * (denominator // weight.denominator) for weight in weights)
    if total <= 0:
        what = f"the weights add up to {Fraction(total, denominator)}"
        raise UsageError(what, advice="their total must be positive")
    return denominator
