"""One field of a config: what its value may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LARGEST = 1 << 31
LONGEST = 1 << 16
"""Most entries of a list, and most characters of a text."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a config."""

    kind: str
    """The allowed values in words."""
    holds: Callable[[Any], bool]
    is_required: bool = False


def whole(least: int = 0, most: int = LARGEST) -> Field:
    """A field for a whole number within bounds."""
    return Field(
        f"a whole number from {least} to {most}",
        lambda value: type(value) is int and least <= value <= most,
    )


def number(least: float, most: float) -> Field:
    """A field for a number within bounds."""
    return Field(
        f"a number from {least:g} to {most:g}",
        lambda value: type(value) in (int, float) and least <= value <= most,
    )


def listed(each: Field, least: int = 1, most: int = 64) -> Field:
    """A field for a list of a bounded number of values."""
    return Field(
        f"a list of {least} to {most} values, each {each.kind}",
        lambda value: (
            isinstance(value, list) and least <= len(value) <= most and all(map(each.holds, value))
        ),
    )


def either(first: Field, other: Field) -> Field:
    """A field for either of two kinds of values."""
    return Field(
        f"{first.kind} or {other.kind}", lambda value: first.holds(value) or other.holds(value)
    )


def optional(field: Field) -> Field:
    """A field for the same values, or null."""
    return either(field, NULL)


def required(field: Field) -> Field:
    """A field for the same values that must be present."""
    return Field(field.kind, field.holds, is_required=True)


def choice(*values: str) -> Field:
    """A field for one of some texts."""
    return Field(f"one of {', '.join(values)}", lambda value: value in values)


NULL = Field("null", lambda value: value is None)
FLAG = Field("true or false", lambda value: isinstance(value, bool))
TEXT = Field("a text", lambda value: isinstance(value, str) and len(value) <= LONGEST)
TEXTS = listed(TEXT)
SIZE = whole(1, LONGEST)
LAYERS = whole(1, 128)
SHARE = number(0, 1)
