"""What a journal says of the command that wrote it: its ingredients, and options of their soups.

Rule 1: a command that is resumed has the same facts, or its scores do not count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checkpoints.hashing import content_digests
from ..checkpoints.open import find_input
from ..frozen import frozen
from ..merge.average import Request


@frozen
class JournaledIngredient:
    """An ingredient, as the journal records it."""

    name: str
    weight: str
    digests: tuple[tuple[str, str], ...]
    """The content digest of each component, by its name."""

    @property
    def facts(self) -> dict[str, Any]:
        """Its part of the first line of the journal."""
        return {"digests": dict(self.digests), "name": plain(self.name), "weight": self.weight}


def journaled(
    path: str | Path, weight: str, component: str | None = None, variant: str | None = None
) -> JournaledIngredient:
    """An ingredient with its digests; reads all of it."""
    found = content_digests(path, component=component, variant=variant)
    names = [each.name for each in find_input(path, component, variant).components]
    digests = tuple((name, each.digest) for name, each in zip(names, found, strict=True))
    return JournaledIngredient(str(path), weight, digests)


def options_of(request: Request) -> dict[str, Any]:
    """The options of a request that decide the bytes of its soups."""
    return {
        "component": request.component,
        "dtype": None if request.dtype is None else request.dtype.value,
        "exclude": list(request.excludes),
        "key": list(request.keys),
        "on-int": request.on_int.value,
        "variant": request.variant,
    }


def plain(text: str) -> str:
    """A text for the journal, its bytes that are no UTF-8 escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
