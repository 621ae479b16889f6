"""Sine, cosine and arc cosine with the same bits on every system.

The series are those of Taylor and, for the arc, of Gregory, after the angle is halved. Libraries of
C round these functions each in their own way; here they are computed in whole numbers.

Rule 1: a number is an integer times 2**-PLACES, so that no operation depends on the processor.
"""

from __future__ import annotations

from functools import cache
from math import isqrt

PLACES = 160
"""Binary places, far more than a float has."""
ONE = 1 << PLACES
HALVINGS = 3
"""How often the arc's angle is halved before its series, of 45 terms then."""


def sine(angle: float) -> float:
    """The sine of an angle in radians, rounded once; below, an angle is at most a few turns."""
    return _rounded(_series(_fixed(angle), first=1))


def cosine(angle: float) -> float:
    """The cosine of an angle in radians, rounded once."""
    return _rounded(_series(_fixed(angle), first=0))


def arc_cosine(value: float) -> float:
    """The angle between 0 and pi with this cosine, which is from -1 to 1; rounded once."""
    return _rounded(_arc(_fixed(value)))


def _fixed(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return (numerator << PLACES) // denominator


def _rounded(number: int) -> float:
    # the quotient of two whole numbers is rounded correctly
    return number / ONE


def _times(first: int, second: int) -> int:
    return first * second >> PLACES


def _series(angle: int, first: int) -> int:
    """The sum of (-1)**k * angle**n / n! for n = first, first + 2, ..."""
    square = _times(angle, angle)
    term = angle if first else ONE
    total, power = 0, first
    while term:
        total += term
        term = -_times(term, square) // ((power + 1) * (power + 2))
        power += 2
        if term == -1:
            # a negative number that is halved for ever
            break
    return total


def _arc(value: int) -> int:
    if value < 0:
        return _pi() - _arc(-value)
    # the tangent of half the angle
    tangent = (isqrt(ONE * ONE - value * value) << PLACES) // (ONE + value)
    for _ in range(HALVINGS - 1):
        tangent = (tangent << PLACES) // (ONE + isqrt(ONE * ONE + tangent * tangent))
    square = _times(tangent, tangent)
    total, power, place = 0, tangent, 1
    while power:
        total += power // place if place % 4 == 1 else -(power // place)
        power = _times(power, square)
        place += 2
    return total << HALVINGS


@cache
def _pi() -> int:
    return 2 * _arc(0)
