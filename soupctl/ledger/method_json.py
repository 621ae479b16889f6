"""The record of a method as JSON; parsing checks all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..choices import MergeMethod
from .json_values import read_text, read_texts
from .method_record import MethodRecord

LONGEST_RATIO = 40
"""Characters of the longest ratio that is read."""


def encode_method(record: MethodRecord) -> dict[str, Any]:
    """The record as a JSON value."""
    return {
        "name": record.method.value,
        "order": record.order,
        "ratios": record.ratios,
        "settings": dict(record.settings),
    }


def parse_method(value: Any, digest: Callable[[object], str]) -> MethodRecord:
    """The inverse; KeyError, TypeError or ValueError for any other value."""
    settings = value["settings"]
    if not isinstance(settings, dict):
        raise TypeError("its settings are not a mapping")
    order = tuple(map(digest, read_texts(value["order"])))
    if len(set(order)) < len(order):
        raise ValueError("its order names an ingredient twice")
    return MethodRecord(
        MergeMethod(value["name"]),
        tuple((name, read_text(settings[name])) for name in sorted(settings)),
        order,
        _short(read_texts(value["ratios"])),
    )


def _short(ratios: Sequence[str]) -> tuple[str, ...]:
    if any(len(each) > LONGEST_RATIO for each in ratios):
        raise ValueError("a ratio is too long")
    return tuple(ratios)
