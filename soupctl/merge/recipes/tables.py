"""Reading the tables of a recipe: known keys, names of earlier steps, flags."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import shortened
from .issues import RecipeIssues, near, unknown_keys


@dataclass
class TableReader:
    """Reads parts of tables and collects the issues."""

    issues: RecipeIssues

    def known(self, where: str, table: Mapping[str, Any], keys: Collection[str]) -> None:
        """Report unknown keys of a table."""
        place = f" in {where}" if where else ""
        for key, advice in unknown_keys(table, keys):
            what = f"{key}{place} is not a known key"
            self.issues.add(what, advice or f"known are {', '.join(keys)}")

    def name(self, where: str, name: object, known: Collection[str]) -> str:
        """A name that must be defined earlier."""
        if not isinstance(name, str) or name not in known:
            what = f"{where} names {reprlib.repr(name)}, which is not an input or earlier step"
            self.issues.add(
                what, near(str(name), known) or f"there are {shortened(', '.join(known)) or 'none'}"
            )
        return str(name)

    def table(self, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """The table under a key; an empty one if there is none."""
        found = table.get(key, {})
        if not isinstance(found, dict):
            self.issues.add(f"{key} is not a table", f"begin it with [{key}]")
            return {}
        return found

    def flag(self, where: str, table: Mapping[str, Any], key: str, *, usual: bool = False) -> bool:
        """A value that is true or false; the usual one if there is none."""
        if type(value := table.get(key, usual)) is not bool:
            self.issues.add(f"{where}: {key} is not true or false")
        return value is True
