"""The libraries' defaults for absent fields: `defaults.json`, loaded when it is needed.

Rule 1: `tools/config_defaults.py` writes the table from diffusers and transformers themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ..frozen import frozen


@frozen
class ClassDefaults:
    """The defaults of one class, or one `model_type`."""

    values: Mapping[str, Any]
    nullable: frozenset[str]
    """Fields with a default for which null is a value, not absence."""
    parts: Mapping[str, str]
    """The type of each nested config, by field."""


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        files(__package__).joinpath("defaults.json").read_text("utf-8")
    )
    return table


def defaults_of(name: str | None) -> ClassDefaults:
    """The defaults of a class of diffusers or a `model_type`; empty if it is unknown."""
    if name is None:
        return ClassDefaults({}, frozenset(), {})
    table = _table()
    return ClassDefaults(
        table["defaults"].get(name, {}),
        frozenset(table["nullable"].get(name, ())),
        table["parts"].get(name, {}),
    )
