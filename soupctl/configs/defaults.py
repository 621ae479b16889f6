"""The fields that the libraries take for absent ones: `defaults.json`, loaded when it is needed.

Rule 1: `tools/config_defaults.py` writes the table from diffusers and transformers themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class ClassDefaults:
    """What one class, or one `model_type`, takes for fields that a config does not have."""

    values: Mapping[str, Any]
    nullable: frozenset[str]
    """Fields with a default in which null is a value of its own."""
    parts: Mapping[str, str]
    """The type of each config within it, by field."""


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        files(__package__).joinpath("defaults.json").read_text("utf-8")
    )
    return table


def defaults_of(name: str | None) -> ClassDefaults:
    """The defaults of a class of diffusers or a `model_type`; none if it is unknown."""
    if name is None:
        return ClassDefaults({}, frozenset(), {})
    table = _table()
    return ClassDefaults(
        table["defaults"].get(name, {}),
        frozenset(table["nullable"].get(name, ())),
        table["parts"].get(name, {}),
    )
