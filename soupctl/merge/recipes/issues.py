"""The issues of a recipe file, collected so that one refusal names all of them."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from ...errors import Issue, UsageError


@dataclass
class RecipeIssues:
    """What is wrong with a recipe."""

    label: str
    """The file's name in messages."""
    found: list[Issue] = field(default_factory=list)

    def add(self, what: str, advice: str | None = None) -> None:
        """Add an issue about the file."""
        self.found.append(Issue(what, self.label, advice=advice))

    def require_none(self) -> None:
        """Raise UsageError with all issues, if there are any."""
        if self.found:
            raise UsageError.collected(self.found)


def unknown_keys(keys: Collection[str], known: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Each key that is not known, quoted, with a suggestion if there is a similar one."""
    for key in keys:
        if key not in known:
            yield reprlib.repr(key), near(key, known)


def near(name: str, known: Collection[str]) -> str | None:
    """A suggestion of the known word that is most similar to a name; None if none is."""
    found = get_close_matches(name[:100], known, 1)
    return f"did you mean {found[0]}?" if found else None
